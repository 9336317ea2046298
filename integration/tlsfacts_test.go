//go:build integration

package integration

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// sharedCache offers the session that it was given last, whatever the server's name.
type sharedCache struct{ session *tls.ClientSessionState }

func (c *sharedCache) Get(string) (*tls.ClientSessionState, bool) { return c.session, c.session != nil }
func (c *sharedCache) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		c.session = s
	}
}

// prompted collects what a program says, and gives it its input once the server has
// said something over TLS.
type prompted struct {
	said  bytes.Buffer
	stdin io.WriteCloser
	input string
}

func (p *prompted) Write(b []byte) (int, error) {
	p.said.Write(b)
	if _, after, found := strings.Cut(p.said.String(), "Verify return code"); found && strings.Contains(after, " OK ") && p.input != "" {
		_, _ = io.WriteString(p.stdin, p.input)
		p.input = ""
	}
	return len(b), nil
}

// strongSuites are those of TLS 1.2 that may be agreed on: with forward secrecy, and
// authenticated encryption (RFC 9325 section 4.2).
var strongSuites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// What a scanner of TLS servers would report of both ports, with the options that
// nobody has set.
func TestTLSFacts(t *testing.T) {
	need(t, "openssl")
	backend := imaptest.NewMemory(t, imaptest.Accounts{Passwords: map[string]string{}})
	imapAddr, imapsAddr, web := freeAddr(t), freeAddr(t), freePort(t)
	startCaddy(t, site{
		Hostnames: "mail.internal other.internal",
		Backend:   "\t\t\tupstream " + backend.Addr() + "\n\t\t\ttls off",
		IMAP:      imapAddr, IMAPS: imapsAddr,
	}.String()+fmt.Sprintf("}\nhttps://mail.internal:%d {\n\tbind 127.0.0.1\n\ttls internal\n\trespond hello\n", web))
	awaitCertificate(t, imapAddr)
	ports := map[string]struct {
		addr     string
		implicit bool
	}{"143": {imapAddr, false}, "993": {imapsAddr, true}}
	for name, port := range ports {
		shake := func(t *testing.T, cfg *tls.Config) (tls.ConnectionState, error) {
			t.Helper()
			if cfg.ServerName == "" {
				cfg.ServerName = "mail.internal"
			}
			cfg.InsecureSkipVerify = true
			conn, state, err := dialTLS(t, port.addr, port.implicit, cfg)
			if err == nil {
				conn.Want("OK", "NOOP") // by then a ticket has come
			}
			_ = conn.Close()
			return state, err
		}
		openssl := func(t *testing.T, input string, args ...string) string {
			t.Helper()
			args = append([]string{"s_client", "-connect", port.addr, "-servername", "mail.internal"}, args...)
			if !port.implicit {
				args = append(args, "-starttls", "imap")
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "openssl", args...)
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out := &prompted{stdin: stdin, input: input}
			cmd.Stdout, cmd.Stderr = out, out
			_ = cmd.Run() // it fails where the server refuses
			return string(bytes.ToValidUTF8(out.said.Bytes(), []byte("?")))
		}

		for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+"/"+tls.VersionName(version), func(t *testing.T) {
				state, err := shake(t, &tls.Config{MinVersion: version, MaxVersion: version})
				if (err == nil) != (version >= tls.VersionTLS12) || err == nil && state.Version != version {
					t.Errorf("%v, %s", err, tls.VersionName(state.Version))
				}
			})
		}
		t.Run(name+"/suites", func(t *testing.T) {
			accepted := 0
			for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
				if !slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
					continue
				}
				_, err := shake(t, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}})
				if err == nil {
					accepted++
					if !slices.Contains(strongSuites, suite.ID) {
						t.Errorf("%s is accepted", suite.Name)
					}
				}
			}
			if accepted < 3 {
				t.Errorf("%d suites are accepted", accepted)
			}
			// And those that Go does not even know.
			const weak = "ALL:COMPLEMENTOFALL:!ECDHE+AESGCM:!ECDHE+CHACHA20:@SECLEVEL=0"
			if out := openssl(t, "Q\n", "-tls1_2", "-cipher", weak); !strings.Contains(out, "handshake failure") {
				t.Errorf("weak suites are not refused:\n%s", out)
			}
		})
		t.Run(name+"/compression", func(t *testing.T) {
			if out := openssl(t, "Q\n", "-tls1_2", "-comp"); !strings.Contains(out, "Compression: NONE") {
				t.Errorf("openssl says:\n%s", out)
			}
		})
		t.Run(name+"/renegotiation", func(t *testing.T) {
			// That it is secure (RFC 5746) says that nobody can put a handshake of his own
			// before that of a client. There is none at all: who asks for it is cut off.
			if out := openssl(t, "Q\n", "-tls1_2"); !strings.Contains(out, "Secure Renegotiation IS supported") {
				t.Errorf("openssl says:\n%s", out)
			}
			if out := openssl(t, "R\n", "-tls1_2"); !strings.Contains(out, "RENEGOTIATING") || !strings.Contains(out, "alert unexpected message") {
				t.Errorf("openssl says:\n%s", out)
			}
		})
		t.Run(name+"/key exchange", func(t *testing.T) {
			if state, err := shake(t, &tls.Config{}); err != nil || state.CurveID != tls.X25519MLKEM768 {
				t.Errorf("by default: %v, %s", err, state.CurveID)
			}
			if state, err := shake(t, &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}}); err != nil || state.CurveID != tls.X25519 {
				t.Errorf("for clients without it: %v, %s", err, state.CurveID)
			}
		})
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+"/tickets/"+tls.VersionName(version), func(t *testing.T) {
				cache := new(sharedCache)
				cfg := func(server string) *tls.Config {
					return &tls.Config{ServerName: server, MaxVersion: version, ClientSessionCache: cache}
				}
				resumes := func(server string, want bool) {
					t.Helper()
					state, err := shake(t, cfg(server))
					if err != nil || state.DidResume != want {
						t.Errorf("%s: %v, resumed: %v", server, err, state.DidResume)
					}
					// Each session has keys of its own, although it was resumed: who gets hold
					// of a ticket's key cannot read it.
					if version == tls.VersionTLS13 && state.CurveID == 0 {
						t.Errorf("%s: no key exchange", server)
					}
				}
				resumes("mail.internal", false)
				resumes("mail.internal", true)
				resumes("MAIL.internal", true)
				resumes("other.internal", false)
				resumes("other.internal", true)
				resumes("mail.internal", false)

				// A web site of the same Caddy has the same keys for its tickets.
				cache.session = nil
				site := &tls.Config{ServerName: "mail.internal", InsecureSkipVerify: true, MaxVersion: version, ClientSessionCache: cache}
				eventually(t, "a ticket of the web site", func() error {
					conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", web), site)
					if err != nil {
						return err
					}
					defer conn.Close()
					if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: mail.internal:%d\r\nConnection: close\r\n\r\n", web); err != nil {
						return err
					}
					if _, err := conn.Read(make([]byte, 4096)); err != nil {
						return err
					}
					if cache.session == nil {
						return fmt.Errorf("there is none")
					}
					return nil
				})
				resumes("mail.internal", false)
			})
		}
	}
}
