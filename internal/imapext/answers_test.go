package imapext

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// answerAll answers all commands in the same way, and goes if it is not understood. In the
// answer TAG is the tag of the command.
func answerAll(ln net.Listener, answer string) {
	conn, err := ln.Accept()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	br := bufio.NewReader(conn)
	for range 200 {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Millisecond))
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		tag, _, literal := strings.Cut(line, " ")
		if strings.HasSuffix(line, "+}\r\n") || !literal {
			continue // the end of the command is on another line
		}
		if _, err := io.WriteString(conn, strings.ReplaceAll(answer, "TAG", tag)+"\r\n"+tag+" OK done\r\n"); err != nil {
			return
		}
	}
}

// FuzzAnswers has a backend say anything while commands are carried out. None may be
// answered twice, and the session has to end.
func FuzzAnswers(f *testing.F) {
	for _, answer := range []string{
		"* SEARCH 1 2 3", "* SEARCH 0", "* SEARCH x", "* 1 FETCH (UID 5 INTERNALDATE \"24-Nov-2026 00:29:30 +0000\")\r\n* SEARCH 1",
		"* 1 EXPUNGE\r\n* SEARCH 1 1 1", "* 1 FETCH (BODY[] {3}\r\nabc BODY[]<0> {10000}", "* BYE x", "TAG NO [BADCHARSET] x", "TAG BAD x",
		"* 4294967297 FETCH (UID 5)", "* 1 FETCH (((((", "+ go", "TAGx OK\r\n* SEARCH 4", "* SEARCH 1 (MODSEQ (5))\r\n* 1 FETCH (MODSEQ (x))",
	} {
		f.Add(answer)
	}
	f.Fuzz(func(t *testing.T, answer string) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			answerAll(ln, answer)
		}()
		defer func() {
			_ = ln.Close()
			<-gone
		}()
		s := NewSession((&Config{Names: []string{Auto}}).Offer([]string{"IMAP4REV1"}))
		c := relayTo(t, ln.Addr().String(), s)
		tags := []string{"c1", "c2", "c3", "c4", "c5", "c6"}
		for i, command := range []string{
			"SELECT INBOX", "SEARCH RETURN (SAVE ALL) OLDER 5", "FETCH $ FLAGS", "UID SEARCH CHARSET UTF-8 OR SUBJECT ä BODY {2+}\r\nü", "STORE $ FLAGS ()", "LOGOUT",
		} {
			if _, err := io.WriteString(c, tags[i]+" "+command+"\r\n"); err != nil {
				break
			}
		}
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		got, _ := io.ReadAll(c.br)
		// What is passed on is answered as the backend likes.
		for _, tag := range tags {
			if n := strings.Count("\n"+string(got), "\n"+tag+" "); n > 1 && !strings.Contains(answer, "c") && !strings.Contains(answer, "TAG") {
				t.Fatalf("%s was answered %d times: %q", tag, n, got)
			}
		}
	})
}
