//go:build unix && !linux

package redistest

import "syscall"

// attributes make the process lead a group that can be signalled as a whole. Nothing here ends it when this one is killed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
