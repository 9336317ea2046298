package imapwire

import "testing"

func TestTrailingLiteral(t *testing.T) {
	for _, tc := range []struct {
		line string
		want Literal
	}{
		{"{0}", Literal{Size: 0}},
		{"{5}", Literal{Size: 5}},
		{"A1 LOGIN {5}", Literal{Size: 5, Start: 9}},
		{"A1 LOGIN {5+}", Literal{Size: 5, NonSync: true, Start: 9}},
		{"A1 APPEND x ~{310}", Literal{Size: 310, Start: 12}},
		{"A1 APPEND x ~{310+}", Literal{Size: 310, NonSync: true, Start: 12}},
		{"* 1 FETCH (BODY[] {28}", Literal{Size: 28, Start: 18}},
		{"{{5}", Literal{Size: 5, Start: 1}},
		{"{007}", Literal{Size: 7}},
		{"{4294967296}", Literal{Size: 1 << 32}},
		{"{99999999999999999999999999}", Literal{Size: maxLiteralSize}},
	} {
		if got, ok := TrailingLiteral([]byte(tc.line)); !ok || got != tc.want {
			t.Errorf("%q: %+v, %v; want %+v", tc.line, got, ok, tc.want)
		}
	}
	for _, line := range []string{
		"", "}", "{}", "{+}", "5}", "{5", "{5} ", "{5}x", "{-5}", "{5-}", "{5++}", "{+5}", "{ 5}", "{5 }", "{0x5}", "{{}", "{5}}", "{\xb2}",
	} {
		if got, ok := TrailingLiteral([]byte(line)); ok {
			t.Errorf("%q announces %+v", line, got)
		}
	}
}
