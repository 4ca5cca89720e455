//go:build !linux

// Command floor is the least that a fan-out can cost. It needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "floor: needs Linux")
	os.Exit(1)
}
