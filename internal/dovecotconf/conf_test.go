package dovecotconf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// show writes nodes down: key=value, and blocks in braces.
func show(nodes []*Node) string {
	var parts []string
	for _, n := range nodes {
		switch {
		case n.Block:
			parts = append(parts, fmt.Sprintf("%s(%s){%s}", n.Key, n.Name, show(n.Nodes)))
		case n.Path != "":
			parts = append(parts, n.Key+"<"+filepath.ToSlash(n.Path))
		default:
			parts = append(parts, n.Key+"="+n.Value)
		}
	}
	return strings.Join(parts, ";")
}

// modern makes the files after it ones of Dovecot 2.4.
const modern = "dovecot_config_version = 2.4.2\n"

func TestParse(t *testing.T) {
	t.Setenv("DOVECOT_TEST", "from outside")
	for name, c := range map[string]struct{ text, want string }{
		"empty":                {"", ""},
		"comments":             {"# one\n\n  # two\na = 1 # three\n", "a=1"},
		"no space":             {"a=1\nb= 2\nc =3", "a=1;b=2;c=3"},
		"tabs":                 {"\ta\t=\t1\t\n", "a=1"},
		"lines of Windows":     {"a = 1\r\nb {\r\n}\r\n", "a=1;b(){}"},
		"spaces within":        {"a = 1  2", "a=1  2"},
		"empty value":          {"a =", "a="},
		"equals signs":         {"args = host=a port=1", "args=host=a port=1"},
		"quotes":               {`a = " # x "`, "a= # x "},
		"other quotes":         {`a = ' "x" '`, `a= "x" `},
		"quotes within":        {`a = x "# y" z`, `a=x "# y" z`},
		"open quote":           {`a = "x # y`, `a="x # y`},
		"quote alone":          {`a = "`, "a="},
		"escapes":              {`a = "\"x\" \\ \y"`, `a="x" \ y`},
		"no escapes":           {`a = x\y`, `a=x\y`},
		"comment at once":      {"a = x#y", "a=x"},
		"continued":            {"a = 1 \\\n  2\\\n\t3\n", "a=1 2 3"},
		"continued by nothing": {"a = \\\n1", "a=1"},
		"block":                {"a {\n b = 1\n}", "a(){b=1}"},
		"named block":          {"a b {\n}", "a(b){}"},
		"quoted name":          {`a "b c" {` + "\n}", "a(b c){}"},
		"blocks within":        {"a b {\nc {\nd = 1\n}\ne = 2\n}\nf = 3", "a(b){c(){d=1};e=2};f=3"},
		"file":                 {"a = </x/y", "a</x/y"},
		"file after a space":   {"a = < y", "a<dir/y"},
		"variable":             {"a = 1\nb = $a", "a=1;b=1"},
		"variable of itself":   {"a = 1\na = $a 2\na = 0 $a", "a=1;a=1 2;a=0 1 2"},
		"no variable":          {"a = 1\nb = x$a\nc = '$a'", "a=1;b=x$a;c=$a"},
		"variable in a block":  {"a = 1\nb {\nc = $a\na = 2\nd = $a\n}\ne = $a", "a=1;b(){c=1;a=2;d=2};e=1"},
		"spaces and variables": {"a = 1\nb = x   $a  y", "a=1;b=x 1 y"},
		"environment":          {"a = $ENV:DOVECOT_TEST x $ENV:DOVECOT_NONE y", "a=from outside x  y"},
		"defaults":             {"a = $default_internal_user", "a=dovecot"},
		"unknown variable":     {"a = x $none y", "a=x  y"},
		"no such escape":       {"a = <<END\n", "a<dir/<END"},

		"2.4":                   {modern + "a = 1", modernShown + "a=1"},
		"2.4 not at first":      {"a = 1\n" + modern + "b = $a", "a=1;" + modernShown + "b=1"},
		"2.4 escapes":           {modern + `a = "\"x\" \\"`, modernShown + `a="x" \`},
		"2.4 quoted key":        {modern + `"a b" = 1`, modernShown + "a b=1"},
		"2.4 here":              {modern + "a = <<END\nx # y\n  \"z\nEND\nb = 1", modernShown + "a=x # y\n  \"z\n;b=1"},
		"2.4 group":             {modern + "group @x y {\na = 1\n}", modernShown + "group @x(y){a=1}"},
		"2.4 variables are set": {modern + "a = $x $SET:x", modernShown + "a=$x "},
		"2.4 afterwards":        {modern + "a = $SET:b\nb = $SET:c z\nc = 1", modernShown + "a=1 z;b=1 z;c=1"},
		"2.4 of itself":         {modern + "a = 1\na = $SET:a 2\nb = $SET:a", modernShown + "a=1;a=1 2;b=1 2"},
		"2.4 of a block":        {modern + "service auth {\ninet_listener x {\nport = 1\n}\n}\na = $SET:service/auth/inet_listener/x/port", modernShown + "service(auth){inet_listener(x){port=1}};a=1"},
		"2.4 of another block":  {modern + "a b {\nc = 1\n}\nd = $SET:a/x/c", modernShown + "a(b){c=1};d="},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := Parse("dir/x.conf", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if got := show(cfg.Nodes); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

const modernShown = "dovecot_config_version=2.4.2;"

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"word":              {"a", "x:1: expected {, or = before a value"},
		"words":             {"\na b c", "x:2: expected {, or = before a value"},
		"value alone":       {"= 1", "x:1: a value without a setting before it"},
		"on one line":       {"a { b = 1 }", "x:1: something behind {"},
		"not closed":        {"a = 1\na {\nb {\n}", "x:2: the block a is not closed"},
		"closed twice":      {"a {\n}\n}", "x:3: } without a block"},
		"after a brace":     {"a {\n} b", "x:2: expected {"},
		"open name":         {`a "b {`, "x:1: a quote that is not closed"},
		"behind a name":     {`a "b" c {`, "x:1: expected {"},
		"no more lines":     {"a = 1 \\", `x:1: the last line of the file ends with \`},
		"NUL":               {"a = \x00", "x:1: a NUL byte"},
		"no file":           {"!include", "x:1: !include names no file"},
		"missing file":      {"!include no/such.conf", "x:1: !include no/such.conf: there is no such file"},
		"no match":          {"!include no/*.conf", "x:1: !include no/*.conf: there is no such file"},
		"bad pattern":       {"!include a[", "x:1: pattern a["},
		"too many braces":   {"!include " + strings.Repeat("{a,b}", 20), "the braces stand for more than"},
		"long line":         {strings.Repeat("a", maxLine+1), "x:1: a line of more than"},
		"long lines":        {"a = " + strings.Repeat("aaaaaaaaaa\\\n", maxLine/10), "x:1: a line of more than"},
		"many settings":     {strings.Repeat("a=1\n", maxNodes+1), "more than 20000 settings"},
		"deep blocks":       {strings.Repeat("a {\n", maxBlocks+1), "x:17: more than 16 blocks"},
		"long value":        {"a = 0123456789\n" + strings.Repeat("a = $a $a\n", 30), "with its variables, the value has more than"},
		"long values":       {"a = " + strings.Repeat("0", 60000) + "\n" + strings.Repeat("b = $a\n", 1000), "with their variables, the values have more than"},
		"many variables":    {"a = " + strings.Repeat("$b ", maxVariables+1), "more than 1000 variables"},
		"variable of files": {"a = </x\nb = $a", "x:2: $a: its value is in a file"},
		"nameless":          {"a = $ b", "x:1: $ without the name"},
		"2.4 escape":        {modern + `a = "\n"`, `x:2: in quotes, \ can only stand before`},
		"2.4 open key":      {modern + `"a = 1`, "x:2: a quote that is not closed"},
		"2.4 behind a key":  {modern + `"a"b = 1`, "x:2: expected = or {"},
		"2.4 no end":        {modern + "a = <<END\nb\n", "x:2: the line END, which ends the value, is missing"},
		"2.4 loop":          {modern + "a = $SET:b\nb = $SET:c\nc = $SET:a", "x:2: $SET:a leads back to itself"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("x", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	if _, err := Parse("x", make([]byte, maxFile+1)); err == nil || !strings.Contains(err.Error(), "which no configuration has") {
		t.Errorf("a big file: %v", err)
	}
}

// write makes files in a directory of the test's own.
func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func parseFile(t *testing.T, path string) (*Config, error) {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(path, body)
}

func TestInclude(t *testing.T) {
	dir := write(t, map[string]string{
		"main.conf": "a = 0\n!include conf.d/*.conf\nblock {\n  !include in/block.inc\n}\n" +
			"!include_try none.conf\n!include_try none/*\n!include_try dangling.conf\n!include_try one.inc/*/x\n!include_try */10-a.conf/x\n!include {two,one}.inc\n!include [!a]one.inc\nz = </k.pem\n",
		"conf.d/20-b.conf":    "b = $a\n!include ../in/c.inc\n",
		"conf.d/10-a.conf":    "a = 1\n",
		"conf.d/.hidden.conf": "hidden = 1\n",
		"conf.d/a.txt":        "other = 1\n",
		"in/c.inc":            "c = <key\n",
		"in/block.inc":        "d = 1\n",
		"one.inc":             "one = 1\n",
		"two.inc":             "two = 2\n",
		"zone.inc":            "zone = 3",
	})
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling.conf")); err != nil {
		t.Skip(err)
	}
	cfg, err := parseFile(t, filepath.Join(dir, "main.conf"))
	if err != nil {
		t.Fatal(err)
	}
	want := "a=0;a=1;b=1;c<" + filepath.ToSlash(dir) + "/in/key;block(){d=1};two=2;one=1;zone=3;z</k.pem"
	if got := show(cfg.Nodes); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if n := cfg.Nodes[2]; n.File != filepath.Join(dir, "conf.d", "20-b.conf") || n.Line != 1 {
		t.Errorf("b is at %s:%d", n.File, n.Line)
	}
	if n := cfg.Nodes[4]; n.Line != 3 || n.End != 5 || n.Nodes[0].Parent() != n || n.Parent() != nil {
		t.Errorf("the block is from line %d to %d", n.Line, n.End)
	}
	var notes []string
	for _, n := range cfg.Notes {
		text, _, _ := strings.Cut(n.Text, dir)
		notes = append(notes, fmt.Sprintf("%d %s", n.Line, text))
	}
	wantNotes := []string{"6 there is no file none.conf", "7 there is no file none/*", "8 left out, as Dovecot does: stat ", "9 there is no file one.inc/*/x", "10 there is no file */10-a.conf/x"}
	if !reflect.DeepEqual(notes, wantNotes) {
		t.Errorf("notes %q", notes)
	}
}

func TestIncludeErrors(t *testing.T) {
	deep := map[string]string{"main.conf": "!include 0.inc"}
	for i := range maxDepth {
		deep[fmt.Sprintf("%d.inc", i)] = fmt.Sprintf("!include %d.inc", i+1)
	}
	deep[fmt.Sprintf("%d.inc", maxDepth)] = "a = 1"
	many := map[string]string{"main.conf": strings.Repeat("!include a.inc\n", maxFiles), "a.inc": "\n"}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"itself":    {map[string]string{"main.conf": "!include main.conf"}, "main.conf:1: a file includes itself: DIR/main.conf -> DIR/main.conf"},
		"cycle":     {map[string]string{"main.conf": "\n!include a.inc", "a.inc": "!include ./b.inc", "b.inc": "!include a.inc"}, "b.inc:1: a file includes itself: DIR/a.inc -> DIR/b.inc -> DIR/a.inc"},
		"depth":     {deep, "more than 16 files include one another"},
		"many":      {many, "more than 1000 files are included"},
		"inside":    {map[string]string{"main.conf": "a = 1\n!include a.inc", "a.inc": "\n\nb"}, "DIR/a.inc:3: expected"},
		"tried":     {map[string]string{"main.conf": "!include_try d", "d/x": ""}, "main.conf:1: reading an included file: DIR/d is no ordinary file"},
		"directory": {map[string]string{"main.conf": "!include d", "d/x": ""}, "main.conf:1: reading an included file: DIR/d is no ordinary file"},
		"big":       {map[string]string{"main.conf": "!include big", "big": strings.Repeat("\n", maxFile+1)}, "main.conf:1: reading an included file: DIR/big has more than"},
		"unclosed":  {map[string]string{"main.conf": "!include a.inc", "a.inc": "a {\n"}, "a.inc:1: the block a is not closed"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, c.files)
			_, err := parseFile(t, filepath.Join(dir, "main.conf"))
			if err == nil || !strings.Contains(strings.ReplaceAll(filepath.ToSlash(err.Error()), filepath.ToSlash(dir), "DIR"), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if at := (*Error)(nil); name != "many" && !errors.As(err, &at) {
				t.Errorf("%v has no line", err)
			}
		})
	}
}

// As many variables as a file can have are looked up in no time.
func TestManyVariables(t *testing.T) {
	var b strings.Builder
	for i := range 9000 {
		fmt.Fprintf(&b, "a%d=\n", i)
	}
	line := "b =" + strings.Repeat(" $n", 900) + "\n"
	b.WriteString(strings.Repeat(line, (maxFile-b.Len())/len(line)))
	start := time.Now()
	if _, err := Parse("x", []byte(b.String())); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestNotes(t *testing.T) {
	cfg, err := Parse("x", []byte("a = 1#2\nb = 1 \\\n# lost\nc = $d\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := show(cfg.Nodes); got != "a=1;c=" {
		t.Errorf("got %s", got)
	}
	if len(cfg.Notes) != 2 || cfg.Notes[0].Line != 1 || cfg.Notes[1].Line != 2 {
		t.Errorf("notes %v", cfg.Notes)
	}
	if unknown := cfg.Nodes[1].Unknown; len(unknown) != 1 || unknown[0] != "d" {
		t.Errorf("unknown %q", unknown)
	}
}

func TestText(t *testing.T) {
	dir := write(t, map[string]string{"main.conf": "a = <value\nb = <none\nc = 1", "value": "text\n"})
	cfg, err := parseFile(t, filepath.Join(dir, "main.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := cfg.Nodes[0].Text(); text != "text" || err != nil {
		t.Errorf("from a file: %q, %v", text, err)
	}
	if _, err := cfg.Nodes[1].Text(); err == nil || !strings.Contains(err.Error(), "main.conf:2: reading the value of b") {
		t.Errorf("from no file: %v", err)
	}
	if text, err := cfg.Nodes[2].Text(); text != "1" || err != nil {
		t.Errorf("from the line: %q, %v", text, err)
	}
}

// No input makes it panic, and everything in the tree has its place.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"a = 1 # x\nb \"c d\" {\ne = $a \\\n f\n}\n", modern + "a = $SET:b\nb = <<END\nx\nEND\ngroup @x y {\n\"q\\\"\" = 'z'\n}\n", "a = \"\\\\\" '#'\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if strings.Contains(string(body), "!include") {
			t.Skip("it might read files of this machine")
		}
		cfg, err := Parse("x", body)
		if err != nil {
			return
		}
		lines, count := strings.Count(string(body), "\n")+1, 0
		Walk(cfg.Nodes, func(n *Node) bool {
			count++
			if n.Line < 1 || n.Line > lines || n.File != "x" || n.Key == "" && !cfg.Modern && !n.Block || n.Block && (n.End <= n.Line || n.End > lines) {
				t.Errorf("%+v", n)
			}
			for _, in := range n.Nodes {
				if in.Parent() != n || !n.Block {
					t.Errorf("%+v is in %+v", in, n)
				}
			}
			return true
		})
		if count > lines {
			t.Errorf("%d settings in %d lines", count, lines)
		}
	})
}

func TestBraces(t *testing.T) {
	for pattern, want := range map[string]string{
		"a": "a", "{a,b}": "a b", "x{a,b}y": "xay xby", "{a,{b,c}}d": "ad bd cd", "{}": "{}", "{a": "{a", "a}": "a}", "{a,b}{c,d}": "ac ad bc bd", "{a}": "a",
	} {
		got, err := expandBraces(pattern)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, %v; want %s", pattern, got, err, want)
		}
	}
}
