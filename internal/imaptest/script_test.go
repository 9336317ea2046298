package imaptest

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// client is the simplest of IMAP clients.
type client struct {
	tb testing.TB
	net.Conn
	br *bufio.Reader
}

func dial(tb testing.TB, addr string) *client {
	tb.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	tb.Cleanup(func() { conn.Close() })
	return &client{tb, conn, bufio.NewReader(conn)}
}

// talk runs a dialogue of lines beginning with C: or S:.
func (c *client) talk(dialogue string) {
	c.tb.Helper()
	for line := range strings.Lines(strings.TrimSpace(dialogue)) {
		who, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if who == "C" {
			if _, err := io.WriteString(c, text+"\r\n"); err != nil {
				c.tb.Fatal(err)
			}
			continue
		}
		got, err := c.br.ReadString('\n')
		if err != nil || strings.TrimRight(got, "\r\n") != text {
			c.tb.Fatalf("got %q, %v; want %q", got, err, text)
		}
	}
}

func (c *client) startTLS(cfg *tls.Config) error {
	conn := tls.Client(c.Conn, cfg)
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.Conn, c.br = conn, bufio.NewReader(conn)
	return nil
}

func TestScriptSeesWhatIsInClear(t *testing.T) {
	ca := NewCA(t)
	s := NewScript(t, func(c *Conn) {
		c.Send("* OK hello\r\n")
		tag, args := c.Command("STARTTLS")
		if args != "" {
			t.Errorf("arguments %q", args)
		}
		c.Sendf("%s OK go", tag)
		if err := c.StartTLS(ca.ServerTLS()); err != nil {
			t.Error(err)
			return
		}
		if m := c.ExpectMatch(`(\S+) login (\S+) (\S+)`); m[2] != "alice" {
			t.Errorf("user %q", m[2])
		}
		c.Send("x OK\r\n")
	})
	cl := dial(t, s.Addr())
	cl.talk("S: * OK hello\nC: a starttls\nS: a OK go")
	if err := cl.startTLS(ca.ClientTLS("127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	cl.talk("C: b LOGIN alice hunter2hunter2\nS: x OK")
	s.WaitIdle()
	if got := string(s.Clear()); got != "a starttls\r\n" || s.Conns() != 1 {
		t.Errorf("in clear: %q, %d connections", got, s.Conns())
	}
	s.CheckHidden("hunter2hunter2")
}

// failures collects what a double reports about its client.
type failures struct {
	testing.TB
	got chan string
}

func (f failures) Helper()                   {}
func (f failures) Errorf(s string, a ...any) { f.got <- fmt.Sprintf(s, a...) }

func TestScriptReportsAnotherCommand(t *testing.T) {
	f := failures{t, make(chan string, 4)}
	s := NewScript(f, func(c *Conn) {
		c.Command("STARTTLS")
		t.Error("the script went on")
	})
	dial(t, s.Addr()).talk("C: a LOGIN b c")
	s.WaitIdle()
	if got := <-f.got; !strings.Contains(got, "expected command STARTTLS") {
		t.Errorf("reported %q", got)
	}
}

func TestScriptReportsLeakedSecret(t *testing.T) {
	f := failures{t, make(chan string, 4)}
	s := NewScript(f, func(c *Conn) { c.Rest() })
	cl := dial(t, s.Addr())
	cl.talk("C: a AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00alice\x00hunter2hunter2")))
	cl.Close()
	s.WaitConns(1)
	s.WaitIdle()
	s.CheckHidden("hunter2hunter2")
	if len(f.got) != 1 {
		t.Errorf("%d reports, want 1", len(f.got))
	}
}

func TestScriptClosesWhatStalls(t *testing.T) {
	s := NewScript(t, func(c *Conn) { c.Rest() })
	cl := dial(t, s.Addr())
	s.WaitConns(1)
	start := time.Now()
	s.Close()
	if took := time.Since(start); took > patience/2 {
		t.Errorf("closing took %v", took)
	}
	if _, err := cl.br.ReadByte(); err == nil {
		t.Error("the connection still stands")
	}
}

func TestRevealedFindsEveryShift(t *testing.T) {
	const secret = "Secr3t-Passw0rd"
	for n := range 9 {
		coded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", n) + secret + strings.Repeat("y", n%4)))
		if len(Revealed([]byte("junk "+coded+" junk"), secret)) == 0 {
			t.Errorf("not found behind %d bytes: %s", n, coded)
		}
	}
	harmless := base64.StdEncoding.EncodeToString([]byte("nothing of interest here, really"))
	if got := Revealed([]byte(harmless), secret); got != nil {
		t.Errorf("found %v", got)
	}
}

func TestCertificates(t *testing.T) {
	ca, other := NewCA(t), NewCA(t)
	tests := []struct {
		name  string
		leaf  *Certificate
		trust *CA
		want  any
	}{
		{"good", ca.Issue(Leaf{}), ca, nil},
		{"by name", ca.Issue(Leaf{Names: []string{"127.0.0.1"}}), ca, nil},
		{"expired", ca.Issue(Leaf{Expired: true}), ca, new(x509.CertificateInvalidError)},
		{"another name", ca.Issue(Leaf{Names: []string{"other.example.org"}}), ca, new(x509.HostnameError)},
		{"another authority", other.Issue(Leaf{}), ca, new(x509.UnknownAuthorityError)},
		{"self-signed", ca.Issue(Leaf{SelfSigned: true}), ca, new(x509.UnknownAuthorityError)},
		{"client's", ca.Issue(Leaf{Client: true}), ca, new(x509.CertificateInvalidError)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewScript(t, func(c *Conn) { _ = c.StartTLS(tt.leaf.ServerConfig()) })
			err := dial(t, s.Addr()).startTLS(tt.trust.ClientTLS("127.0.0.1"))
			if tt.want == nil {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.As(err, tt.want) {
				t.Errorf("got %v, want a %T", err, tt.want)
			}
			if _, err := tls.LoadX509KeyPair(tt.leaf.CertFile, tt.leaf.KeyFile); err != nil {
				t.Error(err)
			}
		})
	}
}
