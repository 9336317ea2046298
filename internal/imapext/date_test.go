package imapext

import (
	"testing"
	"time"
)

func TestSentDate(t *testing.T) {
	for value, want := range map[string]string{
		"Mon, 7 Feb 1994 21:52:25 -0800 (PST)":    "1994-02-08T05:52:25Z",
		"7 Feb 1994 21:52 +0130":                  "1994-02-07T20:22:00Z",
		"Mon,(x) 07 (y) February 94 21.52.25 EDT": "1994-02-08T01:52:25Z",
		"7 Feb 69 1:02:03":                        "2069-02-07T01:02:03Z",
		"7 Feb 1950 01:02:03 GMT":                 "1950-02-07T01:02:03Z",
		"7 Feb 2200 01:02:03 A":                   "2200-02-07T01:02:03Z", // letters are no zones
		"31 Dec 1998 23:59:60 +0000":              "1998-12-31T23:59:59Z",
		"7 Feb 1994 25:00:00 -0800":               "1994-02-07T00:00:00Z", // a wrong time
		"7 Feb 1994":                              "1994-02-07T00:00:00Z",
		"7 Feb 1994 12":                           "1994-02-07T00:00:00Z",
		"7 Feb 1994 12:00:00 -08x0":               "1994-02-07T12:00:00Z", // a wrong zone
		"31 Feb 1994 12:00:00 +0000":              "",
		"0 Feb 1994 12:00:00 +0000":               "",
		"Feb 7 1994 12:00:00":                     "",
		"Mon 7 Feb 1994 12:00:00":                 "",
		"7 Foo 1994 12:00:00":                     "",
		"7 anf 1994 12:00:00":                     "",
		"7 Feb 199 12:00:00":                      "",
		"7 Feb 1899 12:00:00":                     "",
		"":                                        "",
		"Mon, 7 Feb 1994 21:52:25 +9999999999999999999999999": "1994-02-07T21:52:25Z",
	} {
		unix, ok := sentDate([]byte(value))
		got := ""
		if ok {
			got = time.Unix(unix, 0).UTC().Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", value, got, want)
		}
	}
}

func TestInternalDate(t *testing.T) {
	for _, text := range []string{"17-Jul-1996 02:44:25 -0700", " 7-Jul-1996 02:44:25 +0000", "7-Jul-1996 02:44:25 +0000"} {
		if _, ok := internalDate(text); !ok {
			t.Errorf("%q is no date", text)
		}
	}
	if _, ok := internalDate("x"); ok {
		t.Error("x is a date")
	}
}

func FuzzDate(f *testing.F) {
	f.Add("Mon, 7 Feb 1994 21:52:25 -0800 (PST)")
	f.Add("7 Feb 69 1:02:03")
	f.Fuzz(func(t *testing.T, value string) {
		unix, ok := sentDate([]byte(value))
		if year := time.Unix(unix, 0).UTC().Year(); ok && (year < 1899 || year > 10000) {
			t.Errorf("%q: %d", value, year)
		}
	})
}
