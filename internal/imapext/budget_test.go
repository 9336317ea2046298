package imapext

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// TestOrderingBudget has no memory left for what is put in order, and then some.
func TestOrderingBudget(t *testing.T) {
	const limit = 2*orderingSize + recordSize + 50
	orderBudget = &budget{limit: limit}
	t.Cleanup(func() { orderBudget = &budget{limit: maxAllOrdered} })
	const refused = "NO [UNAVAILABLE] Too much is being looked for at the moment; try again."
	find := func(ids string) ask { return ask{"SEARCH ALL", "* SEARCH " + ids + "\r\n", "OK"} }
	size := func(set, says string) ask { return ask{"FETCH " + set + " (UID RFC822.SIZE)", says, "OK"} }
	dialog(t, "SORT THREAD=ORDEREDSUBJECT",
		step{"a SORT (SIZE) US-ASCII ALL\r\n", []ask{find("1 2 3")}, "a " + refused + "\r\n"},
		step{"b SORT (SIZE) US-ASCII ALL\r\n", []ask{
			find("1 2"), size("1:2", "* 1 FETCH (UID 1 RFC822.SIZE 2)\r\n* 2 FETCH (UID 2 RFC822.SIZE 1)\r\n"),
		}, "b " + refused + "\r\n"},
		step{"c SORT (SIZE) US-ASCII ALL\r\n", []ask{find("1"), size("1", "* 1 FETCH (UID 1 RFC822.SIZE 2)\r\n")}, "* SORT 1\r\nc OK Sort completed.\r\n"},
		step{"d THREAD ORDEREDSUBJECT US-ASCII ALL\r\n", []ask{find("1 2 3")}, "d " + refused + "\r\n"},
	)
	dialog(t, "WITHIN", step{"e SEARCH YOUNGER 1000\r\n", []ask{{"SEARCH SINCE 23-Nov-2026", "* SEARCH 1 2 3 4 5 6 7 8 9 10\r\n", "OK"}}, "e " + refused + "\r\n"})
	if n := orderBudget.used.Load(); n != 0 {
		t.Errorf("%d bytes are still taken", n)
	}
}

// TestOrderingSlowReader has a client that does not read its answer, and takes no memory from
// others by that.
func TestOrderingSlowReader(t *testing.T) {
	for _, command := range []string{"SORT (SIZE) US-ASCII ALL", "THREAD ORDEREDSUBJECT US-ASCII ALL"} {
		orderBudget = &budget{limit: maxAllOrdered}
		client, front := net.Pipe()
		backend, back := tcpPair(t)
		session := relay.New(relay.Leg{Conn: front}, relay.Leg{Conn: back}, relay.Options{
			Idle: time.Minute, LiteralPlus: true, Extension: NewSession(only("SORT", "THREAD=ORDEREDSUBJECT").Offer(nil)),
		})
		done := make(chan relay.Stats, 1)
		go func() { done <- session.Run() }()
		go func() { _, _ = io.WriteString(client, "a "+command+"\r\n") }()
		br := bufio.NewReader(backend)
		tag, _ := br.ReadString(' ')
		_, _ = br.ReadString('\n')
		fmt.Fprintf(backend, "* SEARCH 1\r\n%sOK x\r\n", tag)
		tag, _ = br.ReadString(' ')
		if orderBudget.used.Load() == 0 {
			t.Error("nothing is taken")
		}
		_, _ = br.ReadString('\n')
		fmt.Fprintf(backend, "* 1 FETCH (UID 1 RFC822.SIZE 5)\r\n%sOK x\r\n", tag)
		_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := client.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		// The rest of the answer is not read.
		if n := orderBudget.used.Load(); n != 0 {
			t.Errorf("%s: %d bytes are taken still", command, n)
		}
		_, _ = client.Close(), backend.Close()
		<-done
	}
}
