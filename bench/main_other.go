//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: measuring other processes takes the /proc of Linux")
	os.Exit(1)
}
