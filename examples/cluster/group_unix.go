//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup keeps what the terminal says to this process from the other.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
