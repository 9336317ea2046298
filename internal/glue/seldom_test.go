package glue

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestSeldom pins that a flood makes one line in a minute, which counts all.
func TestSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Seldom
		lines, counted := 0, 0
		for range 250 { // seconds
			if n, due := s.Due(); due {
				lines, counted = lines+1, counted+n
			}
			time.Sleep(time.Second)
		}
		if lines != 5 || counted != 241 {
			t.Errorf("%d lines that count %d, want 5 and 241", lines, counted)
		}
	})
}
