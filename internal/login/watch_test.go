package login

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf16"
)

// The examples of RFC 5802 section 5, RFC 7677 section 3, RFC 2195 section 2, RFC 7628
// section 4.1, and those of Google and Microsoft for XOAUTH2.
const (
	sha1First   = "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"
	sha1Proof   = "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
	sha256First = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	sha256Proof = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	cramProof   = "tim b913a602c7eda7a495b4e6e7334d3890"
	bearer      = "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
	google      = "user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01"
	microsoft   = "user=test@contoso.onmicrosoft.com\x01auth=Bearer EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA\x01\x01"
)

// ntlmv2 is the AUTHENTICATE message of [MS-NLMP] section 4.2.4.3, but for what is
// computed.
func ntlmv2(t testing.TB) string {
	t.Helper()
	b, err := hex.DecodeString("4e544c4d53535000" + "03000000" + "180018006c000000" + "5400540084000000" + "0c000c0048000000" +
		"0800080054000000" + "100010005c000000" + "10001000d8000000" + "358288e2" + "0501280a0000000f" +
		"44006f006d00610069006e00" + "5500730065007200" + "43004f004d0050005500540045005200")
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + strings.Repeat("\x00", 232-len(b))
}

// ntlm1 is a NEGOTIATE message.
func ntlm1(flags uint32) string {
	return "NTLMSSP\x00\x01\x00\x00\x00" + string(binary.LittleEndian.AppendUint32(nil, flags)) + strings.Repeat("\x00", 16)
}

// ntlm3 is an AUTHENTICATE message.
func ntlm3(flags uint32, domain, user string) string {
	text := func(s string) []byte {
		if flags&1 == 0 {
			return []byte(s)
		}
		var b []byte
		for _, u := range utf16.Encode([]rune(s)) {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		return b
	}
	d, u := text(domain), text(user)
	m := make([]byte, 64)
	copy(m, "NTLMSSP\x00\x03")
	binary.LittleEndian.PutUint16(m[28:], uint16(len(d)))
	binary.LittleEndian.PutUint32(m[32:], 64)
	binary.LittleEndian.PutUint16(m[36:], uint16(len(u)))
	binary.LittleEndian.PutUint32(m[40:], uint32(64+len(d)))
	binary.LittleEndian.PutUint32(m[60:], flags)
	return string(m) + string(d) + string(u)
}

// patched has other bytes at a place.
func patched(s string, at int, bytes string) string { return s[:at] + bytes + s[at+len(bytes):] }

// wrapped is a wrapped message, with a checksum of 12 bytes that is rotated to the front
// as far as is said.
func wrapped(layer byte, name string, rotated int) string {
	body := string([]byte{layer, 0, 0, 0}) + name + "checksum1234"
	at := len(body) - rotated%len(body)
	head := []byte{5, 4, 4, 0xff, 0, 12, byte(rotated >> 8), byte(rotated), 0, 0, 0, 0, 0, 0, 0, 1}
	return string(head) + body[at:] + body[:at]
}

// relayOf readies an attempt whose client is not asked for anything.
func relayOf(t testing.TB, mechanism string) *Attempt {
	t.Helper()
	a := &Attempt{Remote: netip.MustParseAddr("192.0.2.7")}
	err := NewRelay(mechanism, a, nil, func(context.Context, []byte) ([]byte, error) { return nil, ErrCancelled })
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestWatch pins what is read out of messages that are in order. The last is the proof.
func TestWatch(t *testing.T) {
	const unicode = 0x1
	for _, tc := range []struct {
		name, mechanism string
		messages        []string
		user, authzID   string
		// secret is empty if it is another each time.
		secret Secret
	}{
		{"RFC 5802", ScramSHA1, []string{sha1First, sha1Proof}, "user", "", ""},
		{"RFC 7677", ScramSHA256, []string{sha256First, sha256Proof}, "user", "", ""},
		{"a client that could bind", ScramSHA256, []string{"y,,n=user,r=x", "c=eSws,r=x,p=AAAA"}, "user", "", ""},
		{"for somebody else", ScramSHA1, []string{"n,a=shared,n=user,r=x", "c=biws,r=x,p=AAAA"}, "user", "shared", ""},
		{"for oneself", ScramSHA1, []string{"n,a=user,n=user,r=x", "c=biws,r=x,p=AAAA"}, "user", "", ""},
		{"a name with signs", ScramSHA1, []string{"n,a=x=3D2C=2C,n=a=2Cb=3D2C,r=x", "c=biws,r=x,p=AAAA"}, "a,b=2C", "x=2C,", ""},
		{"an extension of the proof", ScramSHA1, []string{"n,,n=user,r=x", "c=biws,r=x,e=1,p=AAAA"}, "user", "", ""},
		{"RFC 2195", CramMD5, []string{cramProof}, "tim", "", ""},
		{"a name with spaces", CramMD5, []string{"tim the second b913a602c7eda7a495b4e6e7334d3890"}, "tim the second", "", ""},
		{"Google", XOAuth2, []string{google}, "someuser@example.com", "", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"},
		{"Microsoft", XOAuth2, []string{microsoft}, "test@contoso.onmicrosoft.com", "", "EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA"},
		{"a lower-case scheme", XOAuth2, []string{"user=a\x01auth=bearer t\x01\x01"}, "a", "", "t"},
		{"RFC 7628", OAuthBearer, []string{bearer}, "user@example.com", "", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="},
		{"a name with signs and a token", OAuthBearer, []string{"y,a=a=2Cb,\x01auth=Bearer t\x01\x01"}, "a,b", "", "t"},
		{"all parts", OAuthBearer, []string{"n,a=a,\x01qs=x=y\x01post=\x01auth=Bearer t\x01path=/\x01mthd=POST\x01port=1\x01host=h\x01\x01"}, "a", "", "t"},
		{"MS-NLMP", NTLM, []string{ntlm1(0xe2888235), ntlmv2(t)}, `Domain\User`, "", ""},
		{"NTLM after an empty message", NTLM, []string{"", ntlm1(unicode), ntlm3(unicode, "", "alice@example.org")}, "alice@example.org", "", ""},
		{"NTLM without Unicode", NTLM, []string{ntlm1(2), ntlm3(2, "CORP", "alice")}, `CORP\alice`, "", ""},
		{"NTLM beyond Latin", NTLM, []string{ntlm1(unicode), ntlm3(unicode, "CORP", "m\u00fcller\U0001f600")}, "CORP\\m\u00fcller\U0001f600", "", ""},
		{"Kerberos, with a name", GSSAPI, []string{"\x60ticket", "", wrapped(1, "alice", 0)}, "alice", "", ""},
		{"Kerberos, rotated", GSSAPI, []string{"\x60ticket", wrapped(1, "alice", 12)}, "alice", "", ""},
		{"Kerberos, rotated beyond its length", GSSAPI, []string{"\x60ticket", wrapped(1, "alice", 12+3*21)}, "alice", "", ""},
		{"Kerberos, without a name", GSSAPI, []string{"\x60ticket", wrapped(1, "", 5)}, "GSSAPI:192.0.2.7", "", ""},
	} {
		t.Run(tc.mechanism+", "+tc.name, func(t *testing.T) {
			a := relayOf(t, tc.mechanism)
			for i, m := range tc.messages {
				last := i == len(tc.messages)-1
				if proof, err := a.Relay.Watch.Next([]byte(m)); err != nil || proof != last {
					t.Fatalf("message %d is the proof: %v; error %v", i, proof, err)
				}
			}
			if a.User != tc.user || a.AuthzID != tc.authzID || a.OneTime != (tc.secret == "") || tc.secret != "" && a.Secret != tc.secret {
				t.Errorf("%q for %q, once %v", a.User, a.AuthzID, a.OneTime)
			}
			if err := a.Check(); err != nil {
				t.Error(err)
			}
			if _, err := a.Relay.Watch.Next([]byte(tc.messages[0])); !errors.Is(err, ErrMessage) {
				t.Errorf("it goes on after its end: %v", err)
			}
		})
	}
}

// TestWatchRefuses pins which messages nobody says, the last of each exchange, and that
// nothing makes up for them.
func TestWatchRefuses(t *testing.T) {
	const unicode = 0x1
	long := strings.Repeat("x", maxUser+1)
	for mechanism, exchanges := range map[string]map[string][]string{
		ScramSHA256: {
			"nothing":                      {""},
			"half a header":                {"n,"},
			"no name":                      {"n,,r=x"},
			"no nonce":                     {"n,,n=user"},
			"an empty nonce":               {"n,,n=user,r="},
			"an empty name":                {"n,,n=,r=x"},
			"an empty name of another":     {"n,a=,n=user,r=x"},
			"an unknown field":             {"n,b=x,n=user,r=x"},
			"a non-standard mechanism":     {"F,n,,n=user,r=x"},
			"a channel":                    {"p=tls-exporter,,n=user,r=x"},
			"a channel without a name":     {"p,,n=user,r=x"},
			"a mandatory extension":        {"n,,m=x,n=user,r=x"},
			"another name in an extension": {"n,,n=user,r=x,n=bob"},
			"a bare equals sign":           {"n,,n=us=er,r=x"},
			"half a sign":                  {"n,,n=user=2,r=x"},
			"a sign in lower case":         {"n,,n=us=2cer,r=x"},
			"a NUL in the name":            {"n,,n=us\x00er,r=x"},
			"a line in another's name":     {"n,a=b\nb,n=user,r=x"},
			"a NUL in the nonce":           {"n,,n=user,r=x\x00,n=bob"},
			"a long name":                  {"n,,n=" + long + ",r=x"},
			"no proof":                     {sha256First, "c=biws,r=x"},
			"a proof in the middle":        {sha256First, "c=biws,r=x,p=AAAA,n=bob"},
			"an empty proof":               {sha256First, "c=biws,r=x,p="},
			"a proof that is not base64":   {sha256First, "c=biws,r=x,p=?"},
			"no header again":              {sha256First, "r=x,p=AAAA"},
			"no nonces":                    {sha256First, "c=biws,p=AAAA"},
			"an empty message":             {sha256First, ""},
			"the first once more":          {sha256First, sha256First},
		},
		CramMD5: {
			"nothing":        {""},
			"no digest":      {"tim"},
			"no name":        {" b913a602c7eda7a495b4e6e7334d3890"},
			"a short digest": {"tim b913a602c7eda7a495b4e6e7334d38"},
			"a long digest":  {"tim b913a602c7eda7a495b4e6e7334d389000"},
			"no hexadecimal": {"tim b913a602c7eda7a495b4e6e7334d389x"},
			"a space behind": {cramProof + " "},
			"a NUL":          {"t\x00m b913a602c7eda7a495b4e6e7334d3890"},
			"a line":         {"t\r\nm b913a602c7eda7a495b4e6e7334d3890"},
			"a long name":    {long + " b913a602c7eda7a495b4e6e7334d3890"},
		},
		XOAuth2: {
			"nothing":               {""},
			"no user":               {"auth=Bearer t\x01\x01"},
			"an empty user":         {"user=\x01auth=Bearer t\x01\x01"},
			"no token":              {"user=a\x01\x01"},
			"an empty token":        {"user=a\x01auth=Bearer \x01\x01"},
			"a token of blanks":     {"user=a\x01auth=Bearer  \x01\x01"},
			"no scheme":             {"user=a\x01auth=t\x01\x01"},
			"another scheme":        {"user=a\x01auth=Basic dGVzdA==\x01\x01"},
			"a name without an end": {"user=a"},
			"no end":                {"user=a\x01auth=Bearer t"},
			"half an end":           {"user=a\x01auth=Bearer t\x01"},
			"something behind":      {"user=a\x01auth=Bearer t\x01\x01x"},
			"an end too many":       {"user=a\x01auth=Bearer t\x01\x01\x01"},
			"two tokens":            {"user=a\x01auth=Bearer t\x01auth=Bearer u\x01\x01"},
			"two users":             {"user=a\x01user=b\x01auth=Bearer t\x01\x01"},
			"a user behind":         {"user=a\x01auth=Bearer t\x01user=b\x01\x01"},
			"a NUL in the user":     {"user=a\x00b\x01auth=Bearer t\x01\x01"},
			"a line in the user":    {"user=a\r\nb\x01auth=Bearer t\x01\x01"},
			"a line in the token":   {"user=a\x01auth=Bearer t\r\nu\x01\x01"},
			"a NUL in the token":    {"user=a\x01auth=Bearer t\x00\x01\x01"},
			"a long name":           {"user=" + long + "\x01auth=Bearer t\x01\x01"},
			"OAUTHBEARER":           {bearer},
		},
		OAuthBearer: {
			"nothing":               {""},
			"no header":             {"auth=Bearer t\x01\x01"},
			"no user":               {"n,,\x01auth=Bearer t\x01\x01"},
			"an empty user":         {"n,a=,\x01auth=Bearer t\x01\x01"},
			"two users":             {"n,a=a,a=b,\x01auth=Bearer t\x01\x01"},
			"another header behind": {"n,a=a,\x01n,a=b,\x01auth=Bearer t\x01\x01"},
			"a user behind":         {"n,a=a,\x01user=b\x01auth=Bearer t\x01\x01"},
			"an unknown part":       {"n,a=a,\x01name=b\x01auth=Bearer t\x01\x01"},
			"a part twice":          {"n,a=a,\x01host=x\x01host=y\x01auth=Bearer t\x01\x01"},
			"a channel":             {"p=tls-unique,a=a,\x01auth=Bearer t\x01\x01"},
			"no token":              {"n,a=a,\x01host=x\x01\x01"},
			"the dummy answer":      {"\x01"},
			"a NUL in the user":     {"n,a=a\x00b,\x01auth=Bearer t\x01\x01"},
			"something for the end": {"n,a=a,x\x01auth=Bearer t\x01\x01"},
			"no end":                {"n,a=a,\x01auth=Bearer t\x01"},
			"XOAUTH2":               {google},
		},
		NTLM: {
			"two empty messages":         {"", ""},
			"an empty message later":     {ntlm1(unicode), ""},
			"no signature":               {"NTLMSSQ\x00" + ntlm1(unicode)[8:]},
			"too short":                  {ntlm1(unicode)[:15]},
			"no negotiation":             {ntlmv2(t)},
			"two negotiations":           {ntlm1(unicode), ntlm1(unicode)},
			"the backend's message":      {ntlm1(unicode), patched(ntlmv2(t), 8, "\x02")},
			"too short for the proof":    {ntlm1(unicode), ntlmv2(t)[:63]},
			"nobody":                     {ntlm1(unicode), ntlm3(unicode, "CORP", "")},
			"somebody, but anonymous":    {ntlm1(unicode), ntlm3(unicode|0x800, "CORP", "alice")},
			"another script than said":   {ntlm1(2), ntlm3(unicode, "CORP", "alice")},
			"no Unicode, although said":  {ntlm1(unicode | 2), ntlm3(2, "CORP", "alice")},
			"an odd length":              {ntlm1(unicode), patched(ntlmv2(t), 36, "\x07")},
			"a name beyond the end":      {ntlm1(unicode), patched(ntlmv2(t), 40, "\xe1")},
			"a name far beyond the end":  {ntlm1(unicode), patched(ntlmv2(t), 40, "\xff\xff\xff\xff")},
			"a domain beyond the end":    {ntlm1(unicode), patched(ntlmv2(t), 28, "\xff\xfe")},
			"a backslash in the domain":  {ntlm1(unicode), ntlm3(unicode, `A\B`, "alice")},
			"a slash in the name":        {ntlm1(unicode), ntlm3(unicode, "CORP", "alice/bob")},
			"a backslash in the name":    {ntlm1(unicode), ntlm3(unicode, "CORP", `alice\bob`)},
			"a NUL in the name":          {ntlm1(unicode), ntlm3(unicode, "", "al\x00ice")},
			"a line in the name":         {ntlm1(2), ntlm3(2, "", "al\nice")},
			"a domain that is a mailbox": {ntlm1(unicode), ntlm3(unicode, "a@b", "alice")},
		},
		GSSAPI: {
			"too short":               {wrapped(1, "", 0)[:16]},
			"shorter than its sum":    {wrapped(1, "", 0)[:27]},
			"no room for a layer":     {wrapped(1, "", 0)[:31]},
			"encrypted":               {patched(wrapped(1, "alice", 0), 2, "\x06")},
			"from the backend":        {patched(wrapped(1, "alice", 0), 2, "\x05")},
			"another filler":          {patched(wrapped(1, "alice", 0), 3, "\x00")},
			"integrity":               {wrapped(2, "alice", 0)},
			"privacy":                 {wrapped(4, "alice", 0)},
			"no layer is a layer":     {wrapped(0, "alice", 0)},
			"a NUL in the name":       {wrapped(1, "al\x00ice", 0)},
			"a line in the name":      {wrapped(1, "al\r\nice", 3)},
			"a long name":             {wrapped(1, long, 0)},
			"a sum of all and beyond": {patched(wrapped(1, "alice", 0), 4, "\xff\xff")},
		},
	} {
		for name, messages := range exchanges {
			t.Run(mechanism+", "+name, func(t *testing.T) {
				a := relayOf(t, mechanism)
				for i, m := range messages {
					proof, err := a.Relay.Watch.Next([]byte(m))
					if last := i == len(messages)-1; last != errors.Is(err, ErrMessage) || proof {
						t.Fatalf("message %d is the proof: %v; error %v", i, proof, err)
					}
				}
				for _, m := range []string{google, sha256First, sha256Proof, cramProof, wrapped(1, "bob", 0)} {
					if proof, err := a.Relay.Watch.Next([]byte(m)); proof || !errors.Is(err, ErrMessage) {
						t.Errorf("it goes on after its end: %v", err)
					}
				}
			})
		}
	}
}

// TestNewRelay pins which mechanisms there are, and that none has a secret that others
// have.
func TestNewRelay(t *testing.T) {
	for _, m := range []string{"PLAIN", "LOGIN", "EXTERNAL", "ANONYMOUS", "SCRAM-SHA-256-PLUS", "DIGEST-MD5", "xoauth2", ""} {
		if err := NewRelay(m, new(Attempt), nil, nil); !errors.Is(err, ErrMechanism) || IsRelayed(m) {
			t.Errorf("%s: %v", m, err)
		}
	}
	seen := make(map[Secret]bool)
	for _, m := range RelayedForIMAP {
		a := relayOf(t, m)
		if a.Mechanism != m || a.Form != FormAuthenticate || !IsRelayed(m) {
			t.Errorf("%s: mechanism %s", m, a.Mechanism)
		}
		token := m == XOAuth2 || m == OAuthBearer
		if a.OneTime == token || (a.Secret == "") != token || seen[a.Secret] && !token {
			t.Errorf("%s: a secret for once: %v", m, a.OneTime)
		}
		seen[a.Secret] = true
	}
	if err := NewRelay(CramMD5, new(Attempt), []byte{}, nil); !errors.Is(err, ErrMessage) {
		t.Errorf("CRAM-MD5 with an initial response: %v", err)
	}
}

// TestSpellings pins that the guard, which folds names, is told the name itself: SCRAM
// wants names prepared, which is the backend's business.
func TestSpellings(t *testing.T) {
	a := relayOf(t, ScramSHA256)
	const name = "I\u00adX \u2168 \u00aa"
	if _, err := a.Relay.Watch.Next([]byte("n,,n=" + name + ",r=x")); err != nil || a.User != name {
		t.Errorf("%q, %v", a.User, err)
	}
}
