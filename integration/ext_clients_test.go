//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// richSite is our server with all extensions before one that looks like Exchange, or like a
// poorer one, and has the mailboxes of a Dovecot.
type richSite struct {
	place
	d        *dovecot
	poor     *imaptest.Poor
	password string
}

func startRichSite(t *testing.T, set twinSettings) *richSite {
	s := &richSite{d: twinsDovecot(t, set, "alice"), poor: &imaptest.Poor{TB: t, Capabilities: set.capabilities, Odd: set.odd}}
	s.password = s.d.passwords["alice"]
	ca := imaptest.NewCA(t)
	profile := imaptest.Exchange(ca.ServerTLS("127.0.0.1"))
	profile.After = set.capabilities
	profile.Login = func(l imaptest.Login) string {
		if l.User != "alice" || l.Secret != s.password {
			return imaptest.ExchangeFailed(l)
		}
		return "OK " + l.Command + " completed."
	}
	profile.Session = s.poor.Session(func(l imaptest.Login) (net.Conn, error) { return twinDial(s.d, l.User) })
	backend := imaptest.NewFake(t, profile)
	s.imap, s.imaps, s.host = freeAddr(t), freeAddr(t), "localhost"
	c := startCaddy(t, site{Backend: upstream(backend.Addr(), ca) + "\n\t\t\textensions auto", IMAP: s.imap, IMAPS: s.imaps}.String())
	awaitCertificate(t, s.imap)
	s.root = c.RootFile()
	filler := newTwin(t, s.d, "alice")
	for _, box := range []string{"Archive", `"Deleted Items"`, `"Sent Items"`} {
		filler.do("CREATE " + box)
	}
	for i, subject := range []string{"zebra", "Re: apple", "apple", "Fwd: zebra", "mango", "Re: Re: apple", "grüße", "needle"} {
		parent := ""
		if i == 5 {
			parent = "In-Reply-To: <3@x>\r\n"
		}
		at := time.Unix(1700000000+int64(i%3)*3600, 0).UTC()
		text := fmt.Sprintf("From: f%d <f%d@example.org>\r\nTo: alice@example.org\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%d@x>\r\n%sContent-Type: text/plain; charset=utf-8\r\n\r\nBody %d of %s\r\n",
			i, i, subject, at.Format(time.RFC1123Z), i+1, parent, i+1, subject)
		if got := filler.do(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(text), text)); !strings.HasPrefix(got[len(got)-1], "OK") {
			t.Fatal(got)
		}
	}
	return s
}

// subjects are those of a mailbox, as Dovecot itself says.
func (s *richSite) subjects(t *testing.T, box string) (subjects []string) {
	t.Helper()
	w := newTwin(t, s.d, "alice")
	w.do("EXAMINE " + box)
	for _, line := range w.do("FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])") {
		if _, subject, found := strings.Cut(line, "Subject: "); found {
			subject, _, _ = strings.Cut(subject, "\r\n")
			subjects = append(subjects, subject)
		}
	}
	slices.Sort(subjects)
	return subjects
}

// TestRealClients has mail programs use what their server lacks.
func TestRealClients(t *testing.T) {
	for name, set := range map[string]twinSettings{
		"Exchange": {capabilities: imaptest.ExchangeCapabilities, delim: "/", odd: true},
		"UIDPLUS":  {capabilities: "IMAP4rev1 UIDPLUS", delim: "/"},
	} {
		for client, try := range map[string]func(*testing.T, *richSite){"imapflow": tryImapflow, "neomutt": tryNeomutt, "mbsync": tryMbsync} {
			t.Run(client+" "+name, func(t *testing.T) {
				t.Parallel()
				try(t, startRichSite(t, set))
			})
		}
	}
}

// imapflowDir is where install.sh puts imapflow.
const imapflowDir = "tools/imapflow/node_modules"

const imapflowScript = `
const { ImapFlow } = require(process.argv[2] + '/imapflow');
const [host, port, pass] = process.argv.slice(3);
const atoms = words => words.map(w => Array.isArray(w) ? atoms(w) : { type: 'ATOM', value: w });
(async () => {
  const out = {};
  const c = new ImapFlow({ host, port: Number(port), secure: true, servername: 'localhost', tls: { rejectUnauthorized: false }, auth: { user: 'alice', pass }, logger: false });
  await c.connect();
  out.capabilities = [...c.capabilities.keys()];
  out.compressed = !!c._inflate;
  out.boxes = (await c.list({ statusQuery: { messages: true } })).map(b => [b.path, b.specialUse || '', b.status ? b.status.messages : -1]);
  await c.mailboxOpen('INBOX');
  out.searched = await c.search({ subject: 'apple' }, { uid: true });
  out.utf8 = await c.search({ subject: 'GRÜSSE'.replace('SS', 'ß') }, { uid: true });
  out.esearch = await c.search({ larger: 10 }, { uid: true, returnOptions: ['MIN', 'MAX', 'COUNT', 'ALL'] });
  const raw = async (command, words, name) => {
    let got;
    const response = await c.exec(command, atoms(words), { untagged: { [name]: async u => { got = u.attributes; } } });
    response.next();
    const flat = a => Array.isArray(a) ? a.map(flat) : Number(a.value);
    return (got || []).map(flat);
  };
  out.sorted = await raw('UID SORT', [['SUBJECT', 'DATE'], 'UTF-8', 'ALL'], 'SORT');
  out.threads = await raw('UID THREAD', ['REFERENCES', 'UTF-8', 'ALL'], 'THREAD');
  out.moved = [...(await c.messageMove(String(out.searched[0]), 'Archive', { uid: true })).uidMap.keys()];
  out.left = c.mailbox.exists;
  const idle = c.idle();
  const came = new Promise(resolve => c.on('exists', e => resolve(e.count)));
  out.appended = (await c.append('INBOX', 'Subject: new\r\n\r\nx', ['\\Seen'])).uid; // ends the IDLE
  await idle;
  await c.noop();
  out.exists = await came;
  await c.logout();
  console.log(JSON.stringify(out));
})().catch(e => { console.error(e); process.exit(1); });
`

// tryImapflow lists, searches, sorts and threads as a webmail does that leaves all to the
// server, and moves and appends.
func tryImapflow(t *testing.T, s *richSite) {
	need(t, "node")
	dir, err := filepath.Abs(imapflowDir)
	if err != nil {
		t.Fatal(err)
	}
	needFile(t, filepath.Join(dir, "imapflow"))
	cmd := exec.Command("node", writeFile(t, filepath.Join(shortDir(t), "flow.js"), imapflowScript), dir, "127.0.0.1", port(t, s.imaps), s.password)
	direct := newTwin(t, s.d, "alice")
	direct.do("EXAMINE INBOX")
	sorted := canonical("UID SORT", direct.do("UID SORT (SUBJECT DATE) UTF-8 ALL"))["SORT"]
	threads := canonical("UID THREAD", direct.do("UID THREAD REFERENCES UTF-8 ALL"))["THREAD"]
	direct.do("LOGOUT")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, text, stderr.String())
	}
	var out struct {
		Capabilities           []string
		Compressed             bool
		Boxes                  [][3]any
		Searched, UTF8, Moved  []int
		Sorted                 []int
		Threads                any
		Esearch                map[string]any
		Left, Appended, Exists int
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, name := range []string{"SORT", "THREAD=REFERENCES", "ESEARCH", "LIST-STATUS", "SPECIAL-USE", "MOVE", "IDLE", "COMPRESS=DEFLATE"} {
		if !slices.Contains(out.Capabilities, name) {
			t.Errorf("there is no %s in %v", name, out.Capabilities)
		}
	}
	uses := make(map[string]string)
	messages := make(map[string]string)
	for _, b := range out.Boxes {
		uses[fmt.Sprint(b[0])], messages[fmt.Sprint(b[0])] = fmt.Sprint(b[1]), fmt.Sprint(b[2])
	}
	got := fmt.Sprintln(out.Compressed, uses["Sent Items"], uses["Deleted Items"], uses["Archive"], messages["INBOX"], out.Searched, out.UTF8, out.Sorted,
		out.Esearch["count"], out.Moved, out.Left, out.Appended, out.Exists)
	want := fmt.Sprintln(true, `\Sent`, `\Trash`, `\Archive`, "8", []int{2, 3, 6}, []int{7}, "["+sorted+"]", 8, []int{2}, 7, 9, 8)
	got += strings.ReplaceAll(fmt.Sprint(out.Threads), "] [", "][")
	want += "[" + strings.NewReplacer("(", "[", ")", "]", ")(", "][").Replace(threads) + "]"
	if got != want {
		t.Errorf("got  %s\nwant %s\n%s", got, want, text)
	}
}

// needFile is need for a file.
func needFile(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		need(t, path)
	}
}

// tryNeomutt has the server look for a word in bodies, and moves what is found.
func tryNeomutt(t *testing.T, s *richSite) {
	need(t, "neomutt", "script")
	dir := shortDir(t)
	rc := writeFile(t, filepath.Join(dir, "rc"), fmt.Sprintf(`
set imap_user = alice
set imap_pass = "%s"
set ssl_ca_certificates_file = "%s"
set ssl_verify_host = no
set folder = "imaps://localhost:%s"
set spoolfile = "+INBOX"
set record = ""
set imap_idle = yes
set sort = threads
set confirmappend = no
set confirmcreate = no
set delete = yes
set quit = yes
set abort_nosubject = no
set header_cache = ""
set wait_key = no
`, s.password, s.root, port(t, s.imaps)))
	log := filepath.Join(dir, "debug")
	push := `push "<limit>=b needle<enter><tag-pattern>~A<enter><tag-prefix><save-message>=Archive<enter><quit>"`
	cmd := exec.Command("script", "-qec", fmt.Sprintf("neomutt -n -F %s -d 3 -l %s -e '%s'", rc, log, push), "/dev/null")
	cmd.Env = append(os.Environ(), "TERM=xterm", "HOME="+dir, "LANG=C.UTF-8")
	p := startProcess(t, "neomutt", cmd)
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.stop(t)
	}
	said, _ := os.ReadFile(log + "0")
	if p.err != nil {
		t.Errorf("neomutt has ended with %v", p.err)
	}
	if got := s.subjects(t, "Archive"); !slices.Equal(got, []string{"needle"}) || slices.Contains(s.subjects(t, "INBOX"), "needle") || !strings.Contains(string(said), "UID SEARCH BODY") {
		t.Errorf("in the archive is %q; neomutt: %s", got, said)
	}
}

// tryMbsync has what is deleted here moved to the trash there, and uploads.
func tryMbsync(t *testing.T, s *richSite) {
	need(t, "mbsync")
	dir := shortDir(t)
	config := writeFile(t, filepath.Join(dir, "mbsyncrc"), fmt.Sprintf(`
IMAPAccount a
Host localhost
Port %s
User alice
Pass %q
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account a
Trash "Deleted Items"

MaildirStore near
Path %s/
Inbox %s/inbox

Channel all
Far :far:
Near :near:
Create Near
Expunge Both
SyncState *
`, port(t, s.imaps), s.password, s.root, dir, dir))
	sync := func() string {
		out, err := exec.Command("mbsync", "--verbose", "--debug-net", "--config", config, "all").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	sync()
	files, err := filepath.Glob(filepath.Join(dir, "inbox/*/*"))
	if err != nil || len(files) < 8 {
		t.Fatalf("there are %q, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(text), "Subject: mango") {
			base, _, _ := strings.Cut(filepath.Base(file), ":2,")
			err = os.Rename(file, filepath.Join(dir, "inbox/cur", base+":2,ST"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "inbox/new/1.here"), "Subject: from here\n\nx\n")
	said := sync()
	said += sync() // which finds nothing to do
	inbox := s.subjects(t, "INBOX")
	if trash := s.subjects(t, `"Deleted Items"`); !slices.Equal(trash, []string{"mango"}) || slices.Contains(inbox, "mango") || !slices.Contains(inbox, "from here") || len(inbox) != 8 {
		t.Errorf("in the inbox is %q, in the trash %q\n%s", inbox, trash, said)
	}
	for _, words := range []string{"UID MOVE", "APPENDUID"} {
		if !strings.Contains(said, words) {
			t.Errorf("there is no %s in\n%s", words, said)
		}
	}
	if refused := s.poor.Refused(); len(refused) > 0 {
		t.Errorf("the server was asked for what it does not know: %q", refused)
	}
}
