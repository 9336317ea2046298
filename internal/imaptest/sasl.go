package imaptest

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// SASL is one exchange of a mechanism that ends well, as far as the words go: what is
// proved in it is nothing, and who believes it is up to the test.
type SASL struct {
	Mechanism string
	// User is the name in it, and empty if only the address tells who it is.
	User string
	// Client is what the client says, the last of which is the proof. Backend is what
	// the backend says between them, and at the beginning if it speaks first.
	Client, Backend []string
	// Final is what the backend says after a right proof, and Trouble what after a
	// wrong one, if the mechanism has such a thing.
	Final, Trouble string
	// First says that the backend speaks first.
	First bool
}

// Exchanges are those of all mechanisms that can be relayed, each of a user. No two
// proofs are the same.
func Exchanges(user string) []SASL {
	scram := SASL{
		User: user, Final: "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
		Client:  []string{"n,,n=" + user + ",r=fyko", "c=biws,r=fykoL9jr,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="},
		Backend: []string{"r=fykoL9jr,s=QSXCR+Q6sek8bf92,i=4096"},
	}
	scram256 := scram
	scram.Mechanism, scram256.Mechanism = "SCRAM-SHA-1", "SCRAM-SHA-256"
	trouble := `{"status":"invalid_token"}`
	return []SASL{
		{Mechanism: "XOAUTH2", User: user, Client: []string{"user=" + user + "\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGE\x01\x01"}, Trouble: trouble},
		{Mechanism: "OAUTHBEARER", User: user, Client: []string{"n,a=" + user + ",\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEK\x01\x01"}, Trouble: trouble},
		scram256, scram,
		{Mechanism: "CRAM-MD5", User: user, First: true, Backend: []string{"<1896.697170952@backend>"}, Client: []string{user + " b913a602c7eda7a495b4e6e7334d3890"}},
		{Mechanism: "NTLM", User: user, Client: []string{ntlmNegotiate(), ntlmAuthenticate(user)}, Backend: []string{"NTLMSSP\x00\x02\x00\x00\x00 and so on"}},
		{Mechanism: "GSSAPI", Client: []string{"\x60 a ticket", "", gssapiWrapped("")}, Backend: []string{"\x60 a reply", gssapiWrapped("")}},
	}
}

// Steps are the exchange as Play has it, up to the proof: with an initial response or
// without.
func (s SASL) Steps(initial bool) []string {
	client, backend := s.Client, s.Backend
	steps := []string{"C: TAG AUTHENTICATE " + s.Mechanism}
	switch {
	case s.First:
		steps, backend = append(steps, "S: + "+Base64(backend[0])), backend[1:]
	case initial:
		steps[0] += " "
	default:
		steps = append(steps, "S: +")
	}
	for i, message := range client {
		if i > 0 {
			steps = append(steps, "S: + "+Base64(backend[i-1]))
		}
		if i == 0 && initial && !s.First {
			steps[0] += Base64(message)
		} else {
			steps = append(steps, "C: "+Base64(message))
		}
	}
	return steps
}

// Proof is the line with the proof alone.
func (s SASL) Proof() string { return Base64(s.Client[len(s.Client)-1]) }

// Base64 encodes a message.
func Base64(message string) string { return base64.StdEncoding.EncodeToString([]byte(message)) }

// Play carries on a dialogue. A step "S: x" is a line that the server sends, and "C: x"
// one that the client has to send. The word TAG in them is the tag of the last command.
// It is returned.
func (c *Conn) Play(tag string, steps ...string) string {
	for _, step := range steps {
		side, text, _ := strings.Cut(step, ": ")
		if side == "S" {
			c.Send(strings.ReplaceAll(text, "TAG", tag) + "\r\n")
			continue
		}
		line := c.mustRead(text)
		if command, found := strings.CutPrefix(text, "TAG "); found {
			var rest string
			if tag, rest, found = strings.Cut(line, " "); !found || rest != command {
				c.fail("got line %q, expected %q", line, text)
			}
		} else if line != text {
			c.fail("got line %q, expected %q", line, text)
		}
	}
	return tag
}

// ntlmNegotiate is the first message of NTLM.
func ntlmNegotiate() string {
	m := make([]byte, 32)
	copy(m, "NTLMSSP\x00")
	m[8] = 1
	return string(m)
}

// ntlmAuthenticate is the last message of NTLM, without what is proved.
func ntlmAuthenticate(user string) string {
	const userAt, size = 36, 64
	m := make([]byte, size, size+len(user))
	copy(m, "NTLMSSP\x00")
	m[8] = 3
	binary.LittleEndian.PutUint16(m[userAt:], uint16(len(user)))
	binary.LittleEndian.PutUint32(m[userAt+4:], size)
	return string(append(m, user...))
}

// gssapiWrapped is the choice of a security layer, which is none, and of a name.
func gssapiWrapped(name string) string {
	header := []byte{5, 4, 0, 0xff, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
	return string(header) + "\x01\x00\x00\x00" + name + "hash"
}
