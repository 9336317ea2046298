//go:build integration

package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// behindProxy starts a Dovecot and a Caddy in front of it, and returns where
// the proxy speaks IMAP with STARTTLS, too.
func behindProxy(t *testing.T, passwords map[string]string) (*dovecot, *caddyServer, string) {
	t.Helper()
	ca := imaptest.NewCA(t)
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})}, passwords)
	addr := freeAddr(t)
	c := startCaddy(t, site{Backend: upstream(d.IMAP(), ca), IMAP: addr}.String())
	awaitCertificate(t, addr)
	return d, c, addr
}

// keyboard is a program that a person types into.
type keyboard struct {
	t   *testing.T
	in  io.WriteCloser
	mu  sync.Mutex
	out bytes.Buffer
}

func (k *keyboard) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.out.Write(p)
}

// Await waits for the text on the screen, and returns what stands before it and
// has not been returned yet.
func (k *keyboard) Await(text string) (before string) {
	k.t.Helper()
	eventually(k.t, fmt.Sprintf("%q", text), func() error {
		k.mu.Lock()
		defer k.mu.Unlock()
		i := bytes.Index(k.out.Bytes(), []byte(text))
		if i < 0 {
			return fmt.Errorf("the screen shows %q", k.out.String())
		}
		before = string(k.out.Next(i))
		k.out.Next(len(text))
		return nil
	})
	return before
}

func (k *keyboard) Type(line string) {
	k.t.Helper()
	if _, err := io.WriteString(k.in, line+"\n"); err != nil {
		k.t.Fatal(err)
	}
}

// The dialogue that the recipe for a Dovecot in our place ends with, typed as it
// stands there. A terminal sends LF at the end of a line, not CRLF.
func TestRecipeDialogue(t *testing.T) {
	need(t, "dovecot", "openssl")
	_, _, addr := behindProxy(t, map[string]string{"username": "password"})
	typeRecipe(t, addr)
}

// typeRecipe types the dialogue into openssl.
func typeRecipe(t *testing.T, addr string) {
	t.Helper()
	cmd := exec.Command("openssl", "s_client", "-connect", strings.Replace(addr, "127.0.0.1", "localhost", 1), "-starttls", "imap")
	k := &keyboard{t: t}
	cmd.Stdout, cmd.Stderr = k, k
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	k.in = in
	p := startProcess(t, "openssl", cmd)
	defer p.stop(t)

	k.Await(". OK Pre-login capabilities listed, post-login capabilities have more.\r\n")
	k.Type("01 LOGIN username badpassword")
	k.Await("01 NO [AUTHENTICATIONFAILED] Authentication failed\r\n")
	k.Type("02 LOGIN username password")
	if before := k.Await("02 OK Logged in\r\n"); !strings.HasPrefix(strings.TrimLeft(before, "\r\n"), "* CAPABILITY IMAP4rev1 ") {
		t.Errorf("before the OK: %q, want a list of capabilities", before)
	}
	k.Type("03 SELECT INBOX")
	k.Await("03 OK [READ-WRITE] ")
	k.Type("04 LOGOUT")
	k.Await("04 OK ")
	<-p.done
}

// bigMessage is a message of n bytes or a little more, in lines.
func bigMessage(n int) []byte {
	var b bytes.Buffer
	b.WriteString("From: <alice@example.org>\r\nSubject: a big one\r\n\r\n")
	source := rand.NewChaCha8([32]byte{7})
	line := make([]byte, 57)
	for b.Len() < n {
		_, _ = source.Read(line)
		b.WriteString(base64.StdEncoding.EncodeToString(line) + "\r\n")
	}
	return b.Bytes()
}

func appendMessage(t *testing.T, c *imapclient.Client, message []byte) {
	t.Helper()
	cmd := c.Append("INBOX", int64(len(message)), nil)
	if _, err := cmd.Write(message); err != nil {
		t.Fatalf("APPEND: %v", err)
	}
	if err := cmd.Close(); err != nil {
		t.Fatalf("APPEND: %v", err)
	}
	if _, err := cmd.Wait(); err != nil {
		t.Fatalf("APPEND: %v", err)
	}
}

func fetchSum(t *testing.T, c *imapclient.Client, seq uint32) (sum [32]byte, size int64) {
	t.Helper()
	cmd := c.Fetch(imap.SeqSetNum(seq), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}})
	defer cmd.Close()
	msg := cmd.Next()
	if msg == nil {
		t.Fatalf("FETCH: no message %d: %v", seq, cmd.Close())
	}
	for item := msg.Next(); item != nil; item = msg.Next() {
		if section, ok := item.(imapclient.FetchItemDataBodySection); ok {
			h := sha256.New()
			n, err := io.Copy(h, section.Literal)
			if err != nil {
				t.Fatalf("FETCH: %v", err)
			}
			size = n
			h.Sum(sum[:0])
		}
	}
	if err := cmd.Close(); err != nil {
		t.Fatalf("FETCH: %v", err)
	}
	return sum, size
}

func TestMailboxThroughProxy(t *testing.T) {
	password := secret("Mailbox-Pass-19")
	d, c, addr := behindProxy(t, map[string]string{"alice": password})
	message := bigMessage(10 << 20)
	want := sha256.Sum256(message)

	direct := d.Dial()
	defer direct.Close()
	if err := direct.Login("alice", password).Wait(); err != nil {
		t.Fatal(err)
	}
	appendMessage(t, direct, message)

	exists := make(chan uint32, 16)
	client := openMailbox(t, addr, "alice", password, &imapclient.Options{
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{
			Mailbox: func(data *imapclient.UnilateralDataMailbox) {
				if data.NumMessages != nil {
					exists <- *data.NumMessages
				}
			},
		},
	})
	box, err := client.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages != 1 {
		t.Fatalf("SELECT: %+v, %v", box, err)
	}

	start := time.Now()
	sum, size := fetchSum(t, client, 1)
	if size != int64(len(message)) || sum != want {
		t.Errorf("FETCH: %d bytes, want %d; the same: %v", size, len(message), sum == want)
	}
	figure(t, "FETCH of %d bytes through the proxy in %v", size, time.Since(start).Round(time.Millisecond))

	start = time.Now()
	appendMessage(t, client, message)
	figure(t, "APPEND of %d bytes through the proxy in %v", len(message), time.Since(start).Round(time.Millisecond))
	if sum, _ := fetchSum(t, client, 2); sum != want {
		t.Error("what was appended through the proxy comes back as something else")
	}

	// What APPEND itself has told us is not what IDLE shall tell us.
	for len(exists) > 0 {
		<-exists
	}
	idle, err := client.Idle()
	if err != nil {
		t.Fatalf("IDLE: %v", err)
	}
	appendMessage(t, direct, bigMessage(100))
	timeout := time.After(patience)
	for done := false; !done; {
		select {
		case n := <-exists:
			done = n == 3
		case <-timeout:
			t.Error("IDLE: no news of the third message")
			done = true
		}
	}
	if err := idle.Close(); err != nil {
		t.Errorf("DONE: %v", err)
	}
	if err := idle.Wait(); err != nil {
		t.Errorf("IDLE: %v", err)
	}
	if err := client.Logout().Wait(); err != nil {
		t.Errorf("LOGOUT: %v", err)
	}
	// Each session has logged in at the backend once: ours and the direct one.
	d.WantLogins("alice", 2)
	c.Stop()
}

// curl wants a certificate that it can verify, and TLS from the first byte.
func TestCurl(t *testing.T) {
	need(t, "dovecot", "curl")
	password := secret("Curling-Stone-7")
	ca := imaptest.NewCA(t)
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})},
		map[string]string{"alice": password})
	direct := d.Dial()
	defer direct.Close()
	if err := direct.Login("alice", password).Wait(); err != nil {
		t.Fatal(err)
	}
	appendMessage(t, direct, []byte("Subject: hello\r\n\r\nread me\r\n"))
	imapAddr, imapsAddr := freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{Backend: upstream(d.IMAP(), ca), IMAP: imapAddr, IMAPS: imapsAddr}.String())
	awaitCertificate(t, imapAddr)
	c.Roots()
	port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':'):] }
	for _, url := range []string{"imap://localhost" + port(imapAddr), "imaps://localhost" + port(imapsAddr)} {
		out, err := exec.Command("curl", "--silent", "--show-error", "--ssl-reqd", "--max-time", "30", "--cacert", c.RootFile(),
			"--user", "alice:"+password, url+"/INBOX;MAILINDEX=1").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "read me") {
			t.Errorf("curl %s: %v\n%s", url, err, out)
		}
		out, err = exec.Command("curl", "--silent", "--show-error", "--ssl-reqd", "--max-time", "30", "--cacert", c.RootFile(),
			"--user", "alice:wrong", url+"/INBOX;MAILINDEX=1").CombinedOutput()
		if err == nil {
			t.Errorf("curl %s with a wrong password: %s", url, out)
		}
	}
}
