//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// password is that of every user.
const password = "secret"

// backend is an IMAP server that costs as little as possible: the same mailbox
// for everybody, and nothing is stored.
type backend struct {
	tls *tls.Config

	mu     sync.Mutex
	idlers map[*session]struct{}
}

// runBackend serves until the process is killed.
func runBackend(args []string) error {
	set := flag.NewFlagSet("bench backend", flag.ContinueOnError)
	dir := set.String("dir", ".", "where the certificate is")
	plain := set.String("plain", "", "address for IMAP with STARTTLS")
	implicit := set.String("implicit", "", "address for IMAP over TLS")
	control := set.String("control", "", "address where it is told to wake who idles")
	if err := set.Parse(args); err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(certificateFiles(*dir))
	if err != nil {
		return fmt.Errorf("loading the certificate: %w", err)
	}
	b := &backend{
		tls:    &tls.Config{Certificates: []tls.Certificate{cert}, CurvePreferences: []tls.CurveID{tls.X25519}},
		idlers: make(map[*session]struct{}),
	}
	failed := make(chan error)
	go func() { failed <- accept(*plain, func(conn net.Conn) { b.serve(conn) }) }()
	go func() { failed <- accept(*implicit, func(conn net.Conn) { b.serve(tls.Server(conn, b.tls)) }) }()
	go func() { failed <- accept(*control, b.serveControl) }()
	return <-failed
}

func accept(addr string, serve func(net.Conn)) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return fmt.Errorf("accepting: %w", err)
		}
		go serve(conn)
	}
}

// serveControl answers "wake" when all that idle have been told of a message,
// with the times, in nanoseconds, before the first and after the last.
func (b *backend) serveControl(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		if line, err := r.ReadString('\n'); err != nil || line != "wake\n" {
			return
		}
		b.mu.Lock()
		var woken []*session
		for s := range b.idlers {
			woken = append(woken, s)
		}
		b.mu.Unlock()
		begin := time.Now()
		for _, s := range woken {
			_, _ = fmt.Fprintf(s.conn, "* %d EXISTS\r\n", s.exists.Add(1))
		}
		fmt.Fprintf(conn, "%d %d %d\n", len(woken), begin.UnixNano(), time.Now().UnixNano())
	}
}

func (b *backend) setIdle(s *session, idle bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if idle {
		b.idlers[s] = struct{}{}
	} else {
		delete(b.idlers, s)
	}
}

// runAuthHTTP tells nginx where the backend is. nginx asks before each login,
// and sends the password on to the backend.
func runAuthHTTP(args []string) error {
	set := flag.NewFlagSet("bench authhttp", flag.ContinueOnError)
	listen := set.String("listen", "", "address for nginx")
	to := set.String("backend", "", "address of the backend")
	if err := set.Parse(args); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(*to)
	if err != nil {
		return fmt.Errorf("reading the backend's address: %w", err)
	}
	err = http.ListenAndServe(*listen, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// As they are spelled here; Set would do the same.
		w.Header().Set("Auth-Status", "OK")
		w.Header().Set("Auth-Server", host)
		w.Header().Set("Auth-Port", port)
	}))
	return fmt.Errorf("answering nginx: %w", err)
}

// arguments splits the rest of a command. Literals have been put into it as
// quoted strings.
func arguments(text string) (args []string, err error) {
	for text = strings.TrimLeft(text, " "); text != ""; text = strings.TrimLeft(text, " ") {
		if text[0] != '"' {
			var word string
			word, text, _ = strings.Cut(text, " ")
			args = append(args, word)
			continue
		}
		var arg strings.Builder
		i := 1
		for ; i < len(text) && text[i] != '"'; i++ {
			if text[i] == '\\' && i+1 < len(text) {
				i++
			}
			arg.WriteByte(text[i])
		}
		if i == len(text) {
			return nil, errors.New("a quoted string does not end")
		}
		args = append(args, arg.String())
		text = text[i+1:]
	}
	return args, nil
}
