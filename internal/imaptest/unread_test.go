package imaptest

import (
	"errors"
	"io"
	"net"
	"testing"
)

func TestUnread(t *testing.T) {
	ours, theirs := net.Pipe()
	u := NewUnread(ours)
	for _, piece := range []string{"a", "bc", "", "d"} {
		if _, err := io.WriteString(u, piece); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(theirs, got); err != nil || string(got) != "abcd" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := errors.Join(u.Close(), u.Close()); err != nil {
		t.Error(err)
	}
	if _, err := u.Write(got); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing to it when closed: %v", err)
	}
	if _, err := theirs.Read(got); !errors.Is(err, io.EOF) {
		t.Errorf("reading at its end: %v", err)
	}
}
