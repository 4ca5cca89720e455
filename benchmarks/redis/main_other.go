//go:build !linux

// Command redis measures the broker over Redis. It needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "redis: needs Linux")
	os.Exit(1)
}
