//go:build unix

package redistest

import "syscall"

type signal = syscall.Signal

const (
	sigKill = syscall.SIGKILL
	sigTerm = syscall.SIGTERM
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

// send signals a process and, unless it is asked to end by itself, its children.
func send(pid int, sig signal) error {
	if sig == sigTerm {
		return syscall.Kill(pid, sig)
	}
	return syscall.Kill(-pid, sig)
}
