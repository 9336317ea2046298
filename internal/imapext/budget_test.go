package imapext

import "testing"

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
