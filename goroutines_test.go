package caddyimap_test

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"
)

// calm are functions that run on goroutines of their own and do not recover from a
// panic at their top, and why they need not.
var calm = map[string]string{
	"caddyimap.work":                 "it does nothing but call safely, which recovers",
	"caddyimap.emitAll":              "it does nothing but call emit, which recovers",
	"internal/dovecotauth.writeLoop": "what it calls recovers, and it must go on to drop answers",
	"internal/glue.wait":             "it waits for a WaitGroup",
	"internal/guard.run":             "it does nothing but call others by sound, which recovers",
	"internal/imapauth.interrupt":    "it sets a deadline",
	"internal/imapfront.put":         "it sets a deadline",
	"internal/imapfront.within":      "it sets a deadline",
	"internal/oauthlogin.RoundTrip":  "it sets a deadline",
	"internal/relay.serve":           "it does nothing but call wake, which recovers",
	"keptnet.accept":                 "a server that listens and never answers is worse than one that ends",
}

// TestGoroutines pins that a panic on any goroutine that we begin ends what the
// goroutine does, and not the process: the function that runs on it begins with a
// deferred call that recovers, or is among calm.
func TestGoroutines(t *testing.T) {
	used := make(map[string]bool)
	begun := 0
	for _, dir := range productionDirs(t) {
		functions := make(map[string][]*ast.BlockStmt)
		var files []*ast.File
		for _, file := range goFiles(t, dir) {
			if path.Dir(file) != dir {
				continue
			}
			parsed := parse(t, file, 0)
			files = append(files, parsed)
			for _, decl := range parsed.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
					functions[f.Name.Name] = append(functions[f.Name.Name], f.Body)
				}
			}
		}
		check := func(in string, run ast.Expr) {
			begun++
			if f, ok := run.(*ast.FuncLit); ok && len(f.Body.List) == 1 {
				if only, ok := f.Body.List[0].(*ast.ExprStmt); ok {
					run = only.X.(*ast.CallExpr).Fun // it stands for the function that it calls
				}
			}
			name, bodies := in, []*ast.BlockStmt{}
			switch f := run.(type) {
			case *ast.FuncLit:
				bodies = append(bodies, f.Body)
			case *ast.Ident:
				name, bodies = f.Name, functions[f.Name]
			case *ast.SelectorExpr:
				name, bodies = f.Sel.Name, functions[f.Sel.Name]
			}
			if len(bodies) > 0 && !slices.ContainsFunc(bodies, func(b *ast.BlockStmt) bool { return !recovers(b, functions) }) {
				return
			}
			if _, used[dir+"."+name] = calm[dir+"."+name]; used[dir+"."+name] {
				return
			}
			t.Errorf("%s: %s runs on a goroutine of its own, and does not recover from a panic", dir, name)
		}
		for _, file := range files {
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok || f.Body == nil {
					continue
				}
				ast.Inspect(f.Body, func(n ast.Node) bool {
					switch n := n.(type) {
					case *ast.GoStmt:
						check(f.Name.Name, n.Call.Fun)
					case *ast.CallExpr:
						// context.AfterFunc and time.AfterFunc begin one later.
						if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "AfterFunc" {
							check(f.Name.Name, n.Args[1])
						}
					}
					return true
				})
			}
		}
	}
	if begun < 15 {
		t.Errorf("only %d goroutines were found", begun)
	}
	for name := range calm {
		if !used[name] {
			t.Errorf("%s need not be among the exemptions", name)
		}
	}
}

// productionDirs are the directories of what serves somebody. Commands do not, nor does
// the adapter, which reads the operator's own file.
func productionDirs(t *testing.T) (dirs []string) {
	t.Helper()
	for _, file := range goFiles(t, ".") {
		dir := path.Dir(file)
		switch {
		case slices.Contains(dirs, dir), strings.HasPrefix(dir, "integration"), dir == "bench", dir == "imapcmd", dir == "internal/doctor", dir == "dovecotadapter", dir == "internal/dovecotconf", strings.HasPrefix(dir, "cmd/"),
			strings.HasPrefix(dir, "internal/demo"), strings.HasPrefix(dir, "internal/imaptest"), strings.HasPrefix(dir, "internal/redistest"):
			continue
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

// recovers says whether one of the calls that a body defers recovers.
func recovers(body *ast.BlockStmt, functions map[string][]*ast.BlockStmt) bool {
	for _, stmt := range body.List {
		if deferred, ok := stmt.(*ast.DeferStmt); ok && callsRecover(deferred.Call, functions) {
			return true
		}
	}
	return false
}

// callsRecover looks for recover in a deferred function literal, or function of the
// package or of another room whose name says so.
func callsRecover(call *ast.CallExpr, functions map[string][]*ast.BlockStmt) bool {
	var name string
	switch f := call.Fun.(type) {
	case *ast.FuncLit:
		return hasRecover(f.Body)
	case *ast.Ident:
		name = f.Name
	case *ast.SelectorExpr:
		name = f.Sel.Name
		if name == "Recovered" { // of glue
			return true
		}
	}
	return slices.ContainsFunc(functions[name], func(b *ast.BlockStmt) bool { return hasRecover(b) })
}

func hasRecover(n ast.Node) (found bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if f, ok := call.Fun.(*ast.Ident); ok && f.Name == "recover" {
				found = true
			}
		}
		return !found
	})
	return found
}
