package caddyimap_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/caddyimap"
	"github.com/caddy-imap/caddy-imap/caddysasl"
	"github.com/caddy-imap/caddy-imap/imapredis"
	"github.com/caddy-imap/caddy-imap/internal/dovecotauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

const optionsPage = "docs/options.md"

// block is a table of options.md and what it is about: a type of the code, and the
// block of a Caddyfile that sets it.
type block struct {
	heading string
	value   any
	// caddyfile has one %s, where the options of the block go.
	caddyfile string
	// path leads to the block in the JSON that the Caddyfile adapts to.
	path string
	// examples are a use of each option, or several. Many need no value of note.
	examples map[string][]string
}

const route = "{\nlayer4 {\n:143 {\nroute {\n"

var blocks = []block{
	{
		"The app imap", caddyimap.App{}, "{\nimap {\n%s\n}\n}", "apps.imap",
		map[string][]string{
			"hostname": {"a.example b.example"}, "certificate": {"a b"}, "backend": {"x {\nupstream a\n}"}, "guard": {"{\nfailure_delay 1s\n}"},
			"max_connections": {"1"}, "max_connections_per_source": {"1"}, "header_cache": {"1"}, "log_user": {"all"},
		},
	},
	{
		"The guard", caddyimap.Guard{}, "{\nimap {\nguard {\n%s\n}\n}\n}", "apps.imap.guard",
		map[string][]string{
			"off": {""}, "account_failures": {"1"}, "known_reserve": {"1"}, "account_window": {"1s"}, "failure_delay": {"1s"}, "source_failures": {"1"},
			"source_ban": {"1s"}, "exempt": {"a b"}, "domain": {"A b"}, "positive_cache": {"1s"}, "store": {"local"},
		},
	},
	{
		"The store redis", imapredis.Store{}, "{\nimap {\nguard {\nstore redis {\n%s\n}\n}\n}\n}", "apps.imap.guard.store",
		map[string][]string{
			"address": {"a b"}, "username": {"x"}, "password": {"x"}, "db": {"1"}, "key_prefix": {"x"}, "tls": {"on", "off"}, "tls_server_name": {"a"},
			"tls_trust_pool": {"file a"}, "tls_client_auth": {"a", "b c"}, "tls_insecure_skip_verify": {""},
		},
	},
	{
		"A backend", caddyimap.Backend{}, "{\nimap {\nbackend x {\n%s\n}\n}\n}", "apps.imap.backends.x",
		map[string][]string{
			"upstream": {"a b"}, "lb_policy": {"x"}, "fail_duration": {"1s"}, "max_fails": {"1"}, "health_interval": {"1s"}, "health_timeout": {"1s"},
			"health_fall": {"1"}, "health_rise": {"1"}, "tls": {"off"}, "tls_server_name": {"a"}, "tls_trust_pool": {"file a"}, "tls_client_auth": {"a", "b c"},
			"tls_insecure_skip_verify": {""}, "dial_timeout": {"1s"}, "auth_timeout": {"1s"}, "username": {"x"}, "delegate": {"x"}, "master_user": {"x"}, "master_password": {"x"}, "auth_command": {"x"}, "probe": {"x"},
			"max_sessions_per_user": {"1"}, "on_removed": {"drain 1s"}, "forward_client": {"x"}, "extensions": {"auto", "auto -SORT STATUS=SIZE", "IDLE UNSELECT"}, "idle_interval": {"1s"}, "append_limit": {"1"}, "special_use": {`\Sent x`}, "hide_folders": {"on"}, "report_missing": {"on"}, "mend_copyuid": {"on"}, "oauth2": {"{\ntoken_url x\n}"},
		},
	},
	{
		"Tokens", caddyimap.OAuth2{}, "{\nimap {\nbackend x {\noauth2 {\n%s\n}\n}\n}\n}", "apps.imap.backends.x.oauth2",
		map[string][]string{
			"token_url": {"x"}, "tenant": {"a b"}, "grant": {"x"}, "verify": {"x"}, "client_id": {"x"}, "client_secret": {"x"}, "client_auth": {"x"},
			"scope": {"a b"}, "mechanism": {"x"}, "tls_server_name": {"a"}, "tls_trust_pool": {"file a"}, "tls_client_auth": {"a", "b c"},
		},
	},
	{
		"An upstream", caddyimap.Upstream{}, "{\nimap {\nbackend x {\nupstream a {\n%s\n}\n}\n}\n}", "apps.imap.backends.x.upstreams.0",
		map[string][]string{"drain": {""}, "drain_timeout": {"1s"}},
	},
	{
		"The handler imap", caddyimap.Handler{}, route + "imap {\n%s\n}\n}\n}\n}\n}", "apps.layer4.servers.srv0.routes.0.handle.0",
		map[string][]string{
			"connection_policy": {"{\nalpn x\n}"}, "implicit_tls": {""}, "insecure_auth": {""}, "mechanisms": {"A B"}, "login_timeout": {"1s"},
			"idle_timeout": {"1s"}, "max_auth_failures": {"1"}, "banner": {"x"}, "trusted_clients": {"a b"}, "client_certificate": {"{\nuser x\n}"}, "capability": {"+X -Y"},
		},
	},
	{
		"The handler dovecot_auth", caddysasl.DovecotAuth{}, route + "dovecot_auth {\n%s\n}\n}\n}\n}\n}", "apps.layer4.servers.srv0.routes.0.handle.0",
		map[string][]string{
			"mechanisms": {"A B"}, "deadline": {"1s"}, "on_unavailable": {"x"}, "allow": {"a b"}, "identity": {"x"}, "allow_delegates": {""},
			"max_connections": {"1"},
		},
	},
	{
		"The handler dovecot_userdb", caddysasl.DovecotUserDB{}, route + "dovecot_userdb {\n%s\n}\n}\n}\n}\n}", "apps.layer4.servers.srv0.routes.0.handle.0",
		map[string][]string{"allow": {"a b"}, "max_connections": {"1"}},
	},
}

// TestOptionsPage compares options.md with the code, in both directions: the
// options of the Caddyfile, the fields of the JSON, which of them belong together,
// and the defaults.
func TestOptionsPage(t *testing.T) {
	page := read(t, optionsPage)
	comments := fieldComments(t)
	for _, b := range blocks {
		t.Run(b.heading, func(t *testing.T) {
			rows := table(t, page, b.heading, "Caddyfile")
			known := knownOptions(t, b)
			fields := jsonFields(reflect.TypeOf(b.value), comments)
			for typ := range withParts(reflect.TypeOf(b.value)) {
				delete(comments, typ.Name())
			}
			var documented, paths []string
			for _, row := range rows {
				var option string
				if spans := codeSpans(row[0]); len(spans) > 0 {
					option, _, _ = strings.Cut(spans[0], " ")
					documented = append(documented, option)
				} else if row[0] != "-" {
					t.Errorf("the first column is %q: want an option, or - if there is none", row[0])
				}
				for _, path := range codeSpans(row[1]) {
					paths = append(paths, path)
					if want, known := fields[path]; known && row[2] != want {
						t.Errorf("default of %s is\n%s\nand in the code\n%s", path, row[2], want)
					}
				}
				if option != "" {
					checkExamples(t, b, option, codeSpans(row[1]))
				}
			}
			same(t, "options of the Caddyfile", documented, known)
			// Fields of types that are not ours are not the code's to name.
			paths = slices.DeleteFunc(paths, func(p string) bool { return strings.HasPrefix(p, "tls.") })
			same(t, "fields of the JSON", paths, slices.Collect(maps.Keys(fields)))
		})
	}
	for name, fields := range comments {
		isElem := slices.ContainsFunc(slices.Collect(maps.Values(lists)), func(elem reflect.Type) bool { return elem.Name() == name })
		if len(fields) > 0 && !isElem {
			t.Errorf("%s: no table for the type %s", optionsPage, name)
		}
	}
}

// knownOptions makes the parser say which options it knows.
func knownOptions(t *testing.T, b block) []string {
	t.Helper()
	_, err := adapt(fmt.Sprintf(b.caddyfile, "no_such_option"))
	if err == nil {
		t.Fatal("an option that there cannot be was taken")
	}
	_, list, _ := strings.Cut(err.Error(), "; known are ")
	list, _, found := strings.Cut(list, ", at ")
	if !found {
		t.Fatalf("no list of known options in: %v", err)
	}
	return strings.Split(list, ", ")
}

// checkExamples adapts the examples of an option and compares what of the JSON
// they set with what the page says.
func checkExamples(t *testing.T, b block, option string, documented []string) {
	t.Helper()
	examples, ok := b.examples[option]
	if !ok {
		t.Errorf("no example of the option %s in this test", option)
	}
	used := make(map[string]bool)
	for _, example := range examples {
		config, err := adapt(fmt.Sprintf(b.caddyfile, option+" "+example))
		if err != nil {
			t.Error(err)
			continue
		}
		var value any
		if err := json.Unmarshal(config, &value); err != nil {
			t.Fatal(err)
		}
		for _, key := range strings.Split(b.path, ".") {
			switch v := value.(type) {
			case map[string]any:
				value = v[key]
			case []any:
				value = v[0]
			}
		}
		if object, ok := value.(map[string]any); ok {
			delete(object, "handler")
			delete(object, "dial") // of the line on which an upstream's block stands
			if _, inline := object["store"].(string); inline {
				delete(object, "store") // the module's name, and no option of it
			}
		}
		for _, leaf := range leaves("", value) {
			i := slices.IndexFunc(documented, func(path string) bool {
				rest, ok := strings.CutPrefix(leaf, path)
				return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
			})
			if i < 0 {
				t.Errorf("option %s sets %s, but the page says %s", option, leaf, documented)
				continue
			}
			used[documented[i]] = true
		}
	}
	for _, path := range documented {
		if !used[path] {
			t.Errorf("option %s does not set %s, as the page says", option, path)
		}
	}
}

// leaves returns the paths to all values that are no objects and arrays.
func leaves(path string, value any) (paths []string) {
	switch v := value.(type) {
	case map[string]any:
		for key, value := range v {
			paths = append(paths, leaves(strings.TrimPrefix(path+"."+key, "."), value)...)
		}
	case []any:
		for _, value := range v {
			paths = append(paths, leaves(path+"[]", value)...)
		}
	default:
		paths = append(paths, path)
	}
	return paths
}

// lists are types of fields whose elements are documented with the field.
var lists = map[reflect.Type]reflect.Type{
	reflect.TypeFor[[]caddyimap.GuardDomain]():      reflect.TypeFor[caddyimap.GuardDomain](),
	reflect.TypeFor[[]caddyimap.CertificateFiles](): reflect.TypeFor[caddyimap.CertificateFiles](),
}

// parts are types of fields that have no table of their own, but rows in that of
// what they are a part of.
var parts = []reflect.Type{
	reflect.TypeFor[caddyimap.LoadBalancing](), reflect.TypeFor[caddyimap.Selection](), reflect.TypeFor[caddyimap.HealthChecks](),
	reflect.TypeFor[caddyimap.ActiveHealthChecks](), reflect.TypeFor[caddyimap.PassiveHealthChecks](),
	reflect.TypeFor[caddyimap.ClientCertificate](),
}

// part returns the part that a field points to.
func part(f reflect.StructField) (reflect.Type, bool) {
	return f.Type, f.Type.Kind() == reflect.Pointer && slices.Contains(parts, f.Type.Elem())
}

// withParts are a type and its parts.
func withParts(typ reflect.Type) map[reflect.Type]bool {
	all := map[reflect.Type]bool{typ: true}
	for _, f := range reflect.VisibleFields(typ) {
		if p, is := part(f); is {
			maps.Copy(all, withParts(p.Elem()))
		}
	}
	return all
}

// jsonFields returns the paths of a type's fields in JSON, with their defaults as
// the comments in the code tell them.
func jsonFields(typ reflect.Type, comments map[string]map[string]string) map[string]string {
	fields := make(map[string]string)
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		if elem, is := lists[f.Type]; is {
			for sub, text := range jsonFields(elem, comments) {
				fields[name+"[]."+sub] = text
			}
			continue
		}
		if p, is := part(f); is {
			for sub, text := range jsonFields(p.Elem(), comments) {
				fields[name+"."+sub] = text
			}
			continue
		}
		fields[name] = comments[typ.Name()][f.Name]
	}
	return fields
}

var defaultText = regexp.MustCompile(`(?s)Default( port)?:\s+(.*)\.$`)

// fieldComments reads what the comments of our modules' fields say about defaults,
// by type and field.
func fieldComments(t *testing.T) map[string]map[string]string {
	t.Helper()
	comments := make(map[string]map[string]string)
	for _, file := range goFiles(t, "caddyimap", "caddysasl", "imapredis") {
		parsed := parse(t, file, parser.ParseComments)
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			typ, ok := spec.Type.(*ast.StructType)
			if !ok || !spec.Name.IsExported() {
				return false
			}
			fields := make(map[string]string)
			for _, f := range typ.Fields.List {
				if f.Tag == nil || !strings.Contains(f.Tag.Value, "json:") {
					continue
				}
				text := "none"
				if m := defaultText.FindStringSubmatch(strings.TrimSpace(f.Doc.Text())); m != nil {
					text = strings.TrimSpace(m[1] + " " + strings.Join(strings.Fields(m[2]), " "))
				}
				for _, name := range f.Names {
					fields[name.Name] = text
				}
			}
			comments[spec.Name.Name] = fields
			return false
		})
	}
	return comments
}

// TestDefaults compares the defaults of the page with what the code sets, since
// a comment is no code. It looks at those that are a value; the others are words.
func TestDefaults(t *testing.T) {
	page := read(t, optionsPage)
	ctx, err := caddy.ProvisionContext(quiet(t, []byte(`{"apps": {"imap": {"backends": {"x": {"upstreams": [{"dial": "a"}], "health_checks": {"active": {}}}}}}}`)))
	if err != nil {
		t.Fatal(err)
	}
	a, err := ctx.App("imap")
	if err != nil {
		t.Fatal(err)
	}
	app := a.(*caddyimap.App)
	values := map[string]any{"The app imap": app, "The guard": app.Guard, "A backend": app.Backends["x"]}
	for heading, id := range map[string]string{"The handler imap": "imap", "The handler dovecot_auth": "dovecot_auth"} {
		if values[heading], err = ctx.LoadModuleByID("layer4.handlers."+id, json.RawMessage(`{}`)); err != nil {
			t.Fatal(err)
		}
	}
	auth := values["The handler dovecot_auth"].(*caddysasl.DovecotAuth)
	auth.Deadline = caddy.Duration(dovecotauth.DefaultDeadline)
	checked := 0
	for heading, value := range values {
		for _, row := range table(t, page, heading, "Caddyfile") {
			field := fieldAt(reflect.ValueOf(value), strings.Trim(row[1], "`"))
			want := strings.Trim(row[2], "`")
			if field.IsValid() && field.Kind() == reflect.Pointer && field.Type().Elem().Kind() == reflect.Int {
				field = field.Elem()
			}
			var got string
			switch {
			case !field.IsValid() || field.IsZero() && field.Kind() != reflect.Bool:
				continue
			case field.Type() == reflect.TypeFor[caddy.Duration]():
				d, err := caddy.ParseDuration(want)
				if err != nil {
					t.Errorf("default of %s: %v", row[1], err)
				}
				want, got = d.String(), time.Duration(field.Int()).String()
			case field.Kind() == reflect.Bool, field.Kind() == reflect.Int, field.Kind() == reflect.String:
				want, _, _ = strings.Cut(want, "`,") // words behind the value
				got = fmt.Sprint(field)
			case len(codeSpans(row[2])) > 0:
				t.Errorf("default of %s: do not know how to compare %s", row[1], field.Type())
			default:
				continue
			}
			if checked++; got != want {
				t.Errorf("default of %s is %s, and in the code %s", row[1], want, got)
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d defaults were compared", checked)
	}
}

// fieldAt returns the field at a path in JSON. It is not valid if there is none.
func fieldAt(v reflect.Value, path string) (field reflect.Value) {
	for name := range strings.SplitSeq(path, ".") {
		if v = reflect.Indirect(v); v.Kind() != reflect.Struct {
			return reflect.Value{}
		}
		typ := v.Type()
		v = v.FieldByNameFunc(func(field string) bool {
			f, _ := typ.FieldByName(field)
			tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			return tag != "" && tag == name
		})
	}
	return v
}

// TestPlaceholders compares the placeholders of the page with those that an error
// message lists.
func TestPlaceholders(t *testing.T) {
	_, err := login.ParseTemplate("{no.such}")
	if err == nil {
		t.Fatal("a placeholder that there cannot be was taken")
	}
	_, list, _ := strings.Cut(err.Error(), "; known are ")
	var documented []string
	for _, row := range table(t, read(t, optionsPage), "Placeholders", "Placeholder") {
		documented = append(documented, codeSpans(row[0])...)
		for i, user := range []string{"alice@example.org", `CORP\alice`} {
			template, err := login.ParseTemplate(codeSpans(row[0])[0])
			if err != nil {
				t.Error(err)
			} else if got := "`" + template.Expand(user) + "`"; got != row[2+i] {
				t.Errorf("%s of %s is %s, and the page says %s", row[0], user, got, row[2+i])
			}
		}
	}
	same(t, "placeholders", documented, braces.FindAllString(list, -1))

	// Those of other templates have tables of their own.
	_, delegate := login.ParseDelegateTemplate("{no.such}")
	_, certificate := login.ParseCertificateTemplate("{no.such}")
	for heading, err := range map[string]error{"Placeholders of delegate": delegate, "Placeholders of client_certificate": certificate} {
		var own []string
		for _, row := range table(t, read(t, optionsPage), heading, "Placeholder") {
			own = append(own, codeSpans(row[0])...)
		}
		_, list, _ := strings.Cut(err.Error(), "; known are ")
		known := slices.DeleteFunc(braces.FindAllString(list, -1), func(p string) bool { return slices.Contains(documented, p) })
		same(t, heading, own, known)
	}
}

var braces = regexp.MustCompile(`\{[^}]*\}`)
