package redistest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

const (
	// limit is how long anything may take that normally takes milliseconds. A busy machine needs some of it.
	limit = time.Minute
	// pace is how often a condition is looked at.
	pace = 10 * time.Millisecond
)

var errPortTaken = errors.New("the port is taken")

// process is a redis-server that can be started again and again, at the same port, over the same files.
type process struct {
	program string
	args    []string
	port    int
	dir     string // log files, and data in a directory of its own
	ready   string // what the log says when it serves

	// Of the newest start.
	logFile string
	starts  int
	pid     int
	exited  chan struct{} // closed when it is gone; nil before the first start
}

func (p *process) data() string { return filepath.Join(p.dir, "data") }

func (p *process) running() bool {
	if p.exited == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// start returns when the process serves. Of errors, errPortTaken is worth another try.
func (p *process) start() error {
	if p.running() {
		return errors.New("it runs already")
	}
	if err := os.MkdirAll(p.data(), 0o755); err != nil {
		return err
	}
	p.starts++
	p.logFile = filepath.Join(p.dir, fmt.Sprintf("log-%d", p.starts))
	output, err := os.Create(p.logFile)
	if err != nil {
		return err
	}
	defer output.Close()
	cmd := exec.Command(p.program, p.args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = attributes()

	started, exited := make(chan error), make(chan struct{})
	go func() {
		// The process ends with the thread that has started it, so the thread is kept until then.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.pid, p.exited = cmd.Process.Pid, exited
	return p.awaitReady()
}

func (p *process) awaitReady() error {
	for deadline := time.Now().Add(limit); ; time.Sleep(pace) {
		alive := p.running() // before the log is read, so that the log is whole if it is not
		log := p.log()
		switch {
		case strings.Contains(log, p.ready):
			return nil
		case alive && time.Now().Before(deadline):
			continue
		case !alive && strings.Contains(log, "Address already in use"):
			return errPortTaken
		}
		_ = p.kill()
		return fmt.Errorf("redis-server does not serve; it said:\n%s", log)
	}
}

// startAgain starts a process that has run, and insists on its port.
func (p *process) startAgain() error {
	for deadline := time.Now().Add(limit); ; time.Sleep(pace) {
		if err := p.start(); !errors.Is(err, errPortTaken) || time.Now().After(deadline) {
			return err
		}
	}
}

// kill ends it at once, with the children that write its files.
func (p *process) kill() error { return p.end(sigKill) }

// shutdown lets it write what it is configured to write.
func (p *process) shutdown() error { return p.end(sigTerm) }

func (p *process) end(sig signal) error {
	if !p.running() {
		return nil
	}
	if err := send(p.pid, sig); err != nil && p.running() {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("redis-server does not end; it said:\n%s", p.log())
	}
}

// log is what the process has said since its newest start.
func (p *process) log() string {
	text, err := os.ReadFile(p.logFile)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-8192):])
}

// split makes two arguments of "--name value", so that options may be written in either form.
func split(options []string) []string {
	var args []string
	for _, o := range options {
		if strings.HasPrefix(o, "--") {
			args = append(args, strings.Fields(o)...)
		} else {
			args = append(args, o)
		}
	}
	return slices.Clip(args)
}
