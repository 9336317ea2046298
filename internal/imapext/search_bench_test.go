package imapext

import "testing"

// BenchmarkPlan looks at commands that are passed on.
func BenchmarkPlan(b *testing.B) {
	offer := (&Config{Names: []string{Auto}}).Offer([]string{"IMAP4REV1", "UIDPLUS"})
	s := NewSession(offer)
	s.mailbox = &mailbox{}
	for _, text := range []string{"a1 UID FETCH 1:100 (UID FLAGS)\r\n", "a1 UID SEARCH UNSEEN SINCE 1-Jan-2026\r\n"} {
		b.Run(text[3:13], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if s.Plan([]byte(text)) != nil {
					b.Fatal("it has a plan")
				}
			}
		})
	}
}
