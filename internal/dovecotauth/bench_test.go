package dovecotauth

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
)

// BenchmarkPlain is one AUTH with PLAIN from the client's line to its answer, the
// client included.
func BenchmarkPlain(b *testing.B) {
	b.Run("pipe", func(b *testing.B) {
		ours, theirs := net.Pipe()
		benchmark(b, ours, theirs)
	})
	b.Run("tcp", func(b *testing.B) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer ln.Close()
		ours, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		theirs, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		benchmark(b, ours, theirs)
	})
}

func benchmark(b *testing.B, ours, theirs net.Conn) {
	served := make(chan error, 1)
	go func() { served <- (&Server{Check: granted}).Serve(context.Background(), theirs) }()
	br := bufio.NewReader(ours)
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			b.Fatal(err)
		}
		if string(line) == "DONE\n" {
			break
		}
	}
	if _, err := io.WriteString(ours, hello); err != nil {
		b.Fatal(err)
	}
	request, want := []byte(authAlice), "OK\t1\tuser=alice@example.test\n"
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ours.Write(request); err != nil {
			b.Fatal(err)
		}
		if line, err := br.ReadSlice('\n'); err != nil || string(line) != want {
			b.Fatalf("%q, %v", line, err)
		}
	}
	_ = ours.Close()
	if err := <-served; err != nil {
		b.Error(err)
	}
}
