//go:build linux

package main

import (
	"io"
	"strings"
)

// Sizes of the backend's messages. None is stored: they are all pieces of one
// text, over and over.
const (
	bigMessage   = 10 << 20 // number 1: fetch and append
	smallMessage = 64 << 10 // number 2: growth of idle sessions
	tinyMessage  = 4 << 10  // number 3, and all that arrive later
	hugeMessage  = 1 << 30  // number 4: slow readers
)

var messageSizes = []int64{bigMessage, smallMessage, tinyMessage, hugeMessage}

// messageText is 1 MiB.
var messageText = func() []byte {
	header := "From: <a@example.org>\r\nTo: <b@example.org>\r\nSubject: load\r\n" +
		"Date: Mon, 23 Nov 2026 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n"
	line := strings.Repeat("The quick brown fox. ", 4)[:76] + "\r\n"
	return []byte(header + strings.Repeat(line, 1<<20/len(line)+1))[:1<<20]
}()

// writeMessage writes a message of the size given.
func writeMessage(w io.Writer, size int64) error {
	for size > 0 {
		n, err := w.Write(messageText[:min(size, int64(len(messageText)))])
		if err != nil {
			return err
		}
		size -= int64(n)
	}
	return nil
}

func messageSize(number int) int64 {
	if number < 1 || number > len(messageSizes) {
		return tinyMessage
	}
	return messageSizes[number-1]
}
