//go:build !linux

// Command loadgen measures a pub/sub server that speaks the Centrifuge client protocol over WebSocket. It needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "loadgen: needs Linux")
	os.Exit(1)
}
