//go:build !unix

package redistest

import (
	"os"
	"syscall"
)

type signal int

const (
	sigKill signal = iota
	sigTerm
	sigStop
	sigCont
)

func attributes() *syscall.SysProcAttr { return nil }

// send can only kill here.
func send(pid int, sig signal) error {
	if sig != sigKill && sig != sigTerm {
		return syscall.EWINDOWS
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return process.Kill()
}
