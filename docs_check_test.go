package caddyimap_test

import (
	"go/ast"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/doctor"
)

const checkPage = "docs/check.md"

// TestCheckPage compares the tables of check.md with the words of the code.
func TestCheckPage(t *testing.T) {
	page := read(t, checkPage)
	column := func(under, first string) (names []string) {
		for _, row := range table(t, page, under, first) {
			names = append(names, strings.Trim(row[0], "`"))
		}
		return names
	}
	same(t, "faults", column("Faults", "Fault"), constants(t, "internal/doctor/faults.go", "Fault"))
	same(t, "steps", column("Steps", "Step"), constants(t, "internal/doctor/check.go", "Step"))
	_, fields, _ := strings.Cut(page, "A check has these fields.")
	var documented, code []string
	for _, row := range table(t, "# Check\n"+fields, "Check", "Field") {
		documented = append(documented, strings.Trim(row[0], "`"))
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[doctor.Check]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		code = append(code, name)
	}
	same(t, "fields", documented, code)
}

// constants returns the values of the constants of a type.
func constants(t *testing.T, file, of string) (values []string) {
	t.Helper()
	for _, decl := range parse(t, file, 0).Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			if v, ok := spec.(*ast.ValueSpec); ok {
				if id, ok := v.Type.(*ast.Ident); ok && id.Name == of {
					values = append(values, strings.Trim(v.Values[0].(*ast.BasicLit).Value, `"`))
				}
			}
		}
	}
	return values
}
