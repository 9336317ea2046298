package caddyimap_test

import (
	"go/ast"
	"go/constant"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const limitsPage = "docs/security.md"

// noLimits are numbers in the code that bound nothing that anybody else could use up,
// and what they are instead.
var noLimits = map[string]string{
	"caddyimap.guardKeyBytes":        "the length of a key",
	"caddyimap.ipv6Site":             "the size of a network",
	"caddyimap.hashLength":           "the length of a hash in the log",
	"caddyimap.idLength":             "the length of an id",
	"caddyimap.expiresSoon":          "when a warning begins",
	"caddyimap.learnAgain":           "a pause",
	"caddyimap.offersKnown":          "a mark",
	"imapredis.defaultPort":          "a port",
	"imapredis.runKeys":              "how a merge is cut into pieces",
	"imapredis.runArgs":              "how a merge is cut into pieces",
	"imapredis.batchRuns":            "how a merge is cut into pieces",
	"imapredis.generationFor":        "for how long a mark is kept that data was not lost",
	"keptnet.retryAfter":             "a pause",
	"keptnet.complainAfter":          "how often a line is logged",
	"internal/glue.seldomEvery":      "how often a line is logged",
	"internal/guard.ipv6Source":      "the size of a network",
	"internal/guard.shardCount":      "the number of locks",
	"internal/guard.restMerging":     "a factor",
	"internal/guard.steady":          "what counts as steady",
	"internal/guard.minPause":        "a pause",
	"internal/guard.maxPause":        "a pause",
	"internal/guard.answering":       "for how long something is believed",
	"internal/imapauth.prefixLength": "the length of a tag",
	"internal/imapauth.sharesFor":    "for how long something is believed",
	"internal/imapwire.maxQuoted":    "from where on a string is sent as a literal",
	"internal/imapext.hangulFirst":   "a part of Unicode",
	"internal/imapext.hangulLast":    "a part of Unicode",
	"internal/imapext.hangulL":       "a part of Unicode",
	"internal/imapext.hangulV":       "a part of Unicode",
	"internal/imapext.hangulT":       "a part of Unicode",
	"internal/imapext.hangulVs":      "a part of Unicode",
	"internal/imapext.hangulTs":      "a part of Unicode",
	"internal/imapext.climb":         "when another way is taken",
	"internal/imapext.highest":       "the number that * stands for",
	"internal/imapext.recordSize":    "how memory is counted",
	"internal/imapext.shelfSize":     "how memory is counted",
	"internal/imapext.orderingSize":  "how memory is counted",
	"internal/imapext.candidateSize": "how memory is counted",
	"internal/imapext.maxCodeBits":   "a part of the format",
	"internal/imapext.literalCodes":  "a part of the format",
	"internal/imapext.lengthCodes":   "a part of the format",
	"internal/imapext.endOfBlock":    "a part of the format",
	"internal/imapext.maxQuoted":     "from where on a string is sent as a literal",
	"internal/relay.prefixLength":    "the length of a tag",
	"internal/oauthlogin.maxNumber":  "what a number looks like",
	"internal/pool.prefixIPv6":       "the size of a network",
	"internal/pool.trialTime":        "how soon a login tries what is down",
	"internal/pool.DefaultStagger":   "when the next upstream is tried beside the first",
	"internal/relay.stripped":        "a kind of event",
	"internal/relay.hashStart":       "a part of a hash",
	"internal/relay.hashPrime":       "a part of a hash",
	"internal/tlsio.headerSize":      "the size of a header",
	"caddyimap.imapPort":             "a port",
	"caddyimap.imapsPort":            "a port",
}

// TestLimitsPage compares the limits of security.md with the code, in both directions:
// each number at the top of a file is a row, or is known to be no limit; each row has
// the value of the code, and its option is one of options.md.
func TestLimitsPage(t *testing.T) {
	code := numbers(t)
	options := make(map[string]bool)
	for _, b := range blocks {
		for _, row := range table(t, read(t, optionsPage), b.heading, "Caddyfile") {
			for _, span := range codeSpans(row[0]) {
				name, _, _ := strings.Cut(span, " ")
				options[name] = true
			}
		}
	}
	page := read(t, limitsPage)
	documented := make(map[string]bool)
	for _, heading := range []string{
		"Connections and sessions", "Clients before login", "Backends", "Token endpoints", "The relay", "Mail servers", "The guard's limits", "The admin API and the rest",
	} {
		for _, row := range table(t, page, heading, "What") {
			option := strings.Trim(row[2], "`")
			if option != "-" && !options[option] {
				t.Errorf("%s: there is no option %s", row[0], option)
			}
			if option == "-" && row[3] == "-" {
				t.Errorf("%s: neither an option nor a name in the code", row[0])
			}
			for _, name := range codeSpans(row[3]) {
				value, ok := code[name]
				switch {
				case !ok:
					t.Errorf("%s: there is no number %s in the code", row[0], name)
				case documented[name]:
					t.Errorf("%s: %s is there twice", row[0], name)
				case len(codeSpans(row[1])) == 0 || !slices.Contains(value, codeSpans(row[1])[0]):
					t.Errorf("%s: the page says %s, and the code %s", name, row[1], value[0])
				}
				documented[name] = true
			}
		}
	}
	for name, value := range code {
		_, exempt := noLimits[name]
		switch {
		case exempt && documented[name]:
			t.Errorf("%s is a row, and need not be among the exemptions", name)
		case !exempt && !documented[name]:
			t.Errorf("%s = %s has no row in %s; if it is no limit, put it among the exemptions", name, value[0], limitsPage)
		}
	}
	for name := range noLimits {
		if _, ok := code[name]; !ok {
			t.Errorf("%s is among the exemptions, and not in the code", name)
		}
	}
}

// numbers are the constants and variables of production code at the top of a file
// whose values are numbers, as the page may write them.
func numbers(t *testing.T) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	for _, dir := range productionDirs(t) {
		values := make(map[string]ast.Expr)
		for _, file := range goFiles(t, dir) {
			if path.Dir(file) != dir {
				continue
			}
			for _, decl := range parse(t, file, 0).Decls {
				gen, ok := decl.(*ast.GenDecl)
				if !ok || gen.Tok != token.CONST && gen.Tok != token.VAR {
					continue
				}
				for _, spec := range gen.Specs {
					s := spec.(*ast.ValueSpec)
					for i, name := range s.Names {
						if i < len(s.Values) {
							values[name.Name] = s.Values[i]
						}
					}
				}
			}
		}
		for name, expr := range values {
			if v, timed := number(expr, values); v != nil {
				n, _ := constant.Int64Val(constant.ToInt(v))
				found[dir+"."+name] = written(n, timed)
			}
		}
	}
	if len(found) < 100 {
		t.Errorf("only %d numbers were found", len(found))
	}
	return found
}

var units = map[string]time.Duration{
	"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour,
}

// number works out an expression of numbers, and says whether it is a duration. It
// returns nil if it is something else.
func number(expr ast.Expr, values map[string]ast.Expr) (v constant.Value, timed bool) {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if e.Kind == token.INT {
			return constant.MakeFromLiteral(e.Value, e.Kind, 0), false
		}
	case *ast.ParenExpr:
		return number(e.X, values)
	case *ast.Ident:
		if other, ok := values[e.Name]; ok {
			return number(other, values)
		}
	case *ast.SelectorExpr:
		if unit, ok := units[e.Sel.Name]; ok {
			return constant.MakeInt64(int64(unit)), true
		}
	case *ast.BinaryExpr:
		x, xTimed := number(e.X, values)
		y, yTimed := number(e.Y, values)
		switch {
		case x == nil || y == nil:
		case e.Op == token.SHL:
			n, _ := constant.Uint64Val(y)
			return constant.Shift(x, e.Op, uint(n)), false
		case e.Op == token.ADD, e.Op == token.SUB, e.Op == token.MUL:
			return constant.BinaryOp(x, e.Op, y), xTimed || yTimed
		}
	}
	return nil, false
}

// written are the ways in which the page may write a number.
func written(n int64, timed bool) []string {
	if timed {
		d := time.Duration(n)
		ways := []string{d.String()}
		for _, unit := range []struct {
			d    time.Duration
			name string
		}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
			if d%unit.d == 0 {
				ways = append(ways, strconv.FormatInt(int64(d/unit.d), 10)+unit.name)
			}
		}
		return ways
	}
	ways := []string{strconv.FormatInt(n, 10)}
	if n%1024 == 0 {
		ways = append(ways, strconv.FormatInt(n>>10, 10)+" KiB")
	}
	return ways
}
