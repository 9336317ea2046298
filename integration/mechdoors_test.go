//go:build integration

package integration

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// mechDoor is a way in by a mechanism, for somebody at an address.
type mechDoor struct {
	name string
	// login returns what he is told, as door does, and an error if the server has not
	// proved what it has to.
	login func(from string, client saslClient) (string, error)
}

// Doors are the two handlers.
func (p *mechProxy) Doors() []mechDoor {
	return []mechDoor{
		{"imap", func(from string, client saslClient) (string, error) { return imapSASL(from, p.imaps, client) }},
		{"auth", func(from string, client saslClient) (string, error) { return authSASL(from, p.auth, "", client) }},
	}
}

// imapSASL logs in with AUTHENTICATE, with TLS from the first byte.
func imapSASL(from, addr string, client saslClient) (string, error) {
	raw, err := dialFrom(from, addr)
	if err != nil {
		return "", err
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Client(raw, insecureTLS())
	br := bufio.NewReader(conn)
	greeting, err := br.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("reading the greeting: %w", err)
	}
	if !strings.HasPrefix(greeting, "* OK ") {
		return strings.TrimRight(greeting, "\r\n"), nil
	}
	mechanism, message, err := client.Start()
	if err != nil {
		return "", err
	}
	command := "a AUTHENTICATE " + mechanism
	if message != nil {
		command += " " + base64.StdEncoding.EncodeToString(message)
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", command); err != nil {
		return "", err
	}
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("reading the answer to AUTHENTICATE: %w", err)
		}
		line = strings.TrimRight(line, "\r\n")
		if challenge, ok := strings.CutPrefix(line, "+ "); ok {
			answer, err := answerTo(client, challenge)
			if err != nil {
				return "", err
			}
			if _, err := fmt.Fprintf(conn, "%s\r\n", answer); err != nil {
				return "", err
			}
		}
		if text, ok := strings.CutPrefix(line, "a "); ok {
			if strings.HasPrefix(text, "OK") {
				err = client.Done()
			}
			return text, err
		}
	}
}

// answerTo has a client answer a challenge, both in base64.
func answerTo(client saslClient, challenge string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(challenge)
	if err != nil {
		return "", fmt.Errorf("challenge %q: %w", challenge, err)
	}
	answer, err := client.Next(b)
	return base64.StdEncoding.EncodeToString(answer), err
}

// authSASL has a mail server ask for a client at an address, with further parameters.
func authSASL(rip, addr, parameters string, client saslClient) (string, error) {
	conn, err := dialFrom("127.0.0.1", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	mechanism, message, err := client.Start()
	if err != nil {
		return "", err
	}
	request := fmt.Sprintf("VERSION\t1\t1\nCPID\t1\nAUTH\t1\t%s\tservice=smtp\trip=%s%s", mechanism, rip, parameters)
	if message != nil {
		request += "\tresp=" + base64.StdEncoding.EncodeToString(message)
	}
	_, err = fmt.Fprintf(conn, "%s\n", request)
	for br := bufio.NewReader(conn); err == nil; {
		var line string
		if line, err = br.ReadString('\n'); err != nil {
			break
		}
		line = strings.TrimRight(line, "\n")
		if challenge, ok := strings.CutPrefix(line, "CONT\t1\t"); ok {
			answer, err := answerTo(client, challenge)
			if err != nil {
				return "", err
			}
			_, _ = fmt.Fprintf(conn, "CONT\t1\t%s\n", answer)
		}
		if rest, ok := strings.CutPrefix(line, "FAIL\t1"); ok {
			return "FAIL" + rest, nil
		}
		if rest, ok := strings.CutPrefix(line, "OK\t1"); ok {
			if final, ok := cutParameter(&rest, "resp"); ok {
				if _, err := answerTo(client, final); err != nil {
					return "", err
				}
			}
			return "OK" + rest, client.Done()
		}
	}
	if errors.Is(err, syscall.ECONNRESET) {
		return authReset, nil
	}
	return "", fmt.Errorf("asking about a login: %w", err)
}

// cutParameter takes a parameter out of an answer.
func cutParameter(answer *string, name string) (value string, found bool) {
	fields := strings.Split(*answer, "\t")
	for i, field := range fields {
		if value, found = strings.CutPrefix(field, name+"="); found {
			*answer = strings.Join(append(fields[:i], fields[i+1:]...), "\t")
			return value, true
		}
	}
	return "", false
}
