//go:build integration

package integration

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// forwardDovecot is a Dovecot that is told where clients are, in every way there is,
// by a proxy at 127.0.0.1. It punishes addresses for wrong passwords, unlike the
// Dovecots of other tests.
type forwardDovecot struct {
	*dovecot
	ca *imaptest.CA
	// proxied and proxiedTLS are where it wants PROXY headers.
	proxied, proxiedTLS string
}

func startForwardDovecot(t *testing.T, passwords map[string]string) forwardDovecot {
	t.Helper()
	ca := imaptest.NewCA(t)
	proxied, proxiedTLS := freePort(t), freePort(t)
	d := startDovecot(t, dovecotSettings{
		Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}}),
		Extra: fmt.Sprintf(`
haproxy_trusted_networks = 127.0.0.1/32
login_trusted_networks = 127.0.0.1/32
service imap-login {
  inet_listener imap-proxied {
    port = %d
    haproxy = yes
  }
  inet_listener imaps-proxied {
    port = %d
    ssl = yes
    haproxy = yes
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0600
  }
}
`, proxied, proxiedTLS),
	}, passwords)
	return forwardDovecot{d, ca, fmt.Sprintf("%s:%d", d.set.IP, proxied), fmt.Sprintf("%s:%d", d.set.IP, proxiedTLS)}
}

// backend is the options of a backend that tells it of its clients.
func (d forwardDovecot) backend(forward, tls string) string {
	addr := map[string]string{"starttls": d.IMAP(), "implicit": d.IMAPS()}[tls]
	if strings.HasPrefix(forward, "proxy") {
		addr = map[string]string{"starttls": d.proxied, "implicit": d.proxiedTLS}[tls]
	}
	return upstream(addr, d.ca) + "\n\t\t\ttls " + tls + "\n\t\t\tforward_client " + forward
}

// WaitLog waits for a line of the log that holds all the words, and returns it.
func (d forwardDovecot) WaitLog(words ...string) (found string) {
	d.t.Helper()
	eventually(d.t, fmt.Sprintf("Dovecot to log %q", words), func() error {
	next:
		for line := range strings.Lines(d.Log()) {
			for _, word := range words {
				if !strings.Contains(line, word) {
					continue next
				}
			}
			found = line
			return nil
		}
		return errors.New("it has not")
	})
	return found
}

// Dovecot logs the client and not us, whoever the client is and however it is told.
func TestForwardClient(t *testing.T) {
	t.Parallel()
	good := secret("Forward-Me-Please-31")
	passwords := make(map[string]string)
	name := func(way, tls, kind string) string {
		return "u-" + strings.ReplaceAll(way, "_", "-") + "-" + tls + "-" + kind
	}
	ways := []string{"proxy_v1", "proxy_v2", "id"}
	kinds := []string{"imap", "auth", "six", "bare", "bad"}
	for _, way := range ways {
		for _, tls := range []string{"starttls", "implicit"} {
			for _, kind := range kinds {
				passwords[name(way, tls, kind)] = good
			}
		}
	}
	d := startForwardDovecot(t, passwords)
	imaps, auth := freeAddr(t), freeAddr(t)
	s := site{Guard: "failure_delay 1ms", Backend: d.backend("off", "starttls"), IMAPS: imaps, Auth: auth}
	c := startCaddy(t, s.String())
	eventually(t, "a certificate", func() error {
		_, err := imapLogin("127.0.0.9", imaps, "nobody", "x")
		return err
	})
	guesses := 0
	session := regexp.MustCompile(`"session":"([^"]+)"`)
	for _, way := range ways {
		for _, tls := range []string{"starttls", "implicit"} {
			t.Run(way+", "+tls, func(t *testing.T) {
				s.Backend = d.backend(way, tls)
				c.Load(s.String())
				doors := doors(imaps, auth)
				user := func(kind string) string { return name(way, tls, kind) }
				logged := func(kind string, words ...string) string {
					t.Helper()
					return d.WaitLog(append(words, "imap-login: Info: Login: user=<"+user(kind)+">", "TLS")...)
				}
				server := strings.TrimSuffix(imaps[:strings.LastIndex(imaps, ":")], ":")

				wantIn(t, doors[0], "127.0.0.77", user("imap"), good)
				line := logged("imap", "rip=127.0.0.77,", "lip="+server+",")
				if way == "id" {
					ours := session.FindStringSubmatch(c.WaitLog(`"msg":"login"`, user("imap")))
					if ours == nil || !strings.Contains(line, "session=<"+ours[1]+">") {
						t.Errorf("our session is %q, and Dovecot's line %s", ours, line)
					}
				}
				// A mail server tells of its client.
				wantIn(t, doors[1], "192.0.2.77\tlip=192.0.2.1\tlport=587\trport=40000", user("auth"), good)
				logged("auth", "rip=192.0.2.77,", "lip=192.0.2.1,")
				wantIn(t, doors[1], "2001:db8::77\tlip=2001:db8::1", user("six"), good)
				logged("six", "rip=2001:db8::77,", "lip=2001:db8::1,")
				wantIn(t, doors[1], "NULL", user("bare"), good)
				logged("bare", "rip=127.0.0.1,")

				// Each from elsewhere, since Dovecot counts.
				guesses++
				guesser := dot("127.0.78", guesses)
				want(t, doors[0], guesser, user("bad"), secret("Forward-Wrong-32"), "that it is wrong", denied)
				d.WaitLog("passwd-file("+user("bad")+","+guesser, "Password mismatch")
			})
		}
	}
	if lines := c.LogLines(`"level":"warn"`, "forward_client"); len(lines) != 0 {
		t.Errorf("warned: %q", lines)
	}
}

// penaltyShows is what a login takes at least that Dovecot punishes, and penaltyHides
// what one takes at most that it does not, on a machine that is busy.
const (
	penaltyShows = 2500 * time.Millisecond
	penaltyHides = 2 * time.Second
)

// Dovecot lets an address wait that has sent wrong passwords. If that is ours, all
// wait.
func TestForwardClientPenalty(t *testing.T) {
	t.Parallel()
	good := secret("Penalty-For-Others-41")
	for _, way := range []string{"off", "proxy_v1", "proxy_v2", "id"} {
		t.Run(way, func(t *testing.T) {
			d := startForwardDovecot(t, map[string]string{"alice": good, "bob": good})
			imaps, auth := freeAddr(t), freeAddr(t)
			backend := d.backend(way, "starttls")
			c := startCaddy(t, site{Guard: "off\nfailure_delay 1ms", Backend: backend, IMAPS: imaps, Auth: auth}.String())
			eventually(t, "a certificate", func() error {
				_, err := imapLogin("127.0.0.9", imaps, "bob", good)
				return err
			})
			doors := doors(imaps, auth)
			want(t, doors[0], "127.0.0.77", "alice", secret("Penalty-Wrong-42"), "that it is wrong", denied)
			for i, from := range []string{"127.0.0.78", "192.0.2.78"} {
				start := time.Now()
				wantIn(t, doors[i], from, "bob", good)
				took := time.Since(start)
				figure(t, "a login by %s of somebody else, after a wrong password: %v", doors[i].name, took.Round(time.Millisecond))
				if way == "off" && i == 0 && took < penaltyShows || way != "off" && took > penaltyHides {
					t.Errorf("by %s it took %v", doors[i].name, took)
				}
			}
			c.Stop()
		})
	}
}

// A Dovecot that does not expect a header, or not from us, and one that expects one
// and gets none, is the operator's trouble, and the error says where to look.
func TestForwardClientMismatch(t *testing.T) {
	good := secret("Mismatch-Of-Headers-51")
	d := startForwardDovecot(t, map[string]string{"alice": good})
	imaps := freeAddr(t)
	s := site{Guard: "off\nfailure_delay 1ms", Backend: d.backend("off", "starttls"), IMAPS: imaps}
	c := startCaddy(t, s.String())
	eventually(t, "a certificate", func() error {
		_, err := imapLogin("127.0.0.9", imaps, "alice", good)
		return err
	})
	for _, way := range []string{"proxy_v1", "proxy_v2"} {
		for tls, addr := range map[string]string{"starttls": d.IMAP(), "implicit": d.IMAPS()} {
			t.Run(way+", "+tls, func(t *testing.T) {
				s.Backend = upstream(addr, d.ca) + "\n\t\t\ttls " + tls + "\n\t\t\tforward_client " + way
				c.Load(s.String())
				want(t, doors(imaps, "")[0], "127.0.0.77", "alice", good, "that it is away", func(answer string) bool { return answer == imapAway })
				c.WaitLog(`"level":"error"`, "forward_client "+way+" sends a PROXY header", addr)
			})
		}
	}
	for tls, addr := range map[string]string{"starttls": d.proxied, "implicit": d.proxiedTLS} {
		t.Run("off, "+tls, func(t *testing.T) {
			s.Backend = upstream(addr, d.ca) + "\n\t\t\ttls " + tls
			c.Load(s.String())
			want(t, doors(imaps, "")[0], "127.0.0.77", "alice", good, "that it is away", func(answer string) bool { return answer == imapAway })
			c.WaitLog(`"level":"error"`, addr)
		})
	}
}
