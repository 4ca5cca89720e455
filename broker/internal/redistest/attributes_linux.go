package redistest

import "syscall"

// attributes make the process end with this one, whatever ends this one, and lead a group that can be signalled as a whole.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
