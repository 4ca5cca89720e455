//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// probe measures an ordinary HTTP handler of the server: one request after another over one kept connection. It has a
// thread and a blocking socket of its own, so that neither the engine nor Go's scheduler stands between the answer and
// the clock.
type probe struct {
	fd      int
	request []byte
	period  time.Duration
	buf     []byte

	latency histogram
	stop    chan struct{}
	done    chan error
}

const probeTimeout = 10 * time.Second

func newProbe(e *engine, path string, rate float64) (*probe, error) {
	if !(rate > 0 && rate <= 1e5) {
		return nil, fmt.Errorf("-app-rate %v must be from 1 to 100000", rate)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("app: socket: %w", err)
	}
	limit := syscall.NsecToTimeval(probeTimeout.Nanoseconds())
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit),
		syscall.Connect(fd, &e.addr))
	if err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("app: connect: %w", err)
	}
	return &probe{
		fd:      fd,
		request: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, e.host),
		period:  time.Duration(float64(time.Second) / rate),
		buf:     make([]byte, 64<<10),
		stop:    make(chan struct{}),
		done:    make(chan error, 1),
	}, nil
}

// start begins to send requests. The caller ends it by finish.
func (p *probe) start() {
	go func() { // ends with finish, or with an error; finish waits for it
		// Not unlocked: the thread, whose priority is changed, ends with this goroutine.
		runtime.LockOSThread()
		// The probe shares its core with the engine. Where it may (as root) it goes first, so that the figure is the
		// server's time and not the wait for this core.
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, -20)
		p.done <- p.run()
	}()
}

func (p *probe) finish() error {
	close(p.stop)
	err := <-p.done
	return errors.Join(err, syscall.Close(p.fd))
}

// run sends a request per period. A request that is late because the answer before it was late counts from when it was
// due, or else a server could hide a stall behind the requests that it kept from being sent.
func (p *probe) run() error {
	due := time.Now()
	for {
		select {
		case <-p.stop:
			return nil
		default:
		}
		from := due
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
			from = time.Now()
		}
		if err := p.once(); err != nil {
			return fmt.Errorf("app: %w", err)
		}
		p.latency.add(int64(time.Since(from)))
		due = due.Add(p.period)
	}
}

func (p *probe) once() error {
	if n, err := syscall.Write(p.fd, p.request); err != nil || n != len(p.request) {
		return fmt.Errorf("write: %d of %d bytes, %w", n, len(p.request), err)
	}
	for have := 0; have < len(p.buf); {
		n, err := syscall.Read(p.fd, p.buf[have:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case n == 0:
			return errors.New("closed by the server")
		}
		have += n
		size, err := responseSize(p.buf[:have])
		if err != nil || size > 0 && have >= size {
			return err
		}
	}
	return errors.New("answer larger than the read buffer")
}

// responseSize returns the size of an answer, header included, or 0 while its header is incomplete.
func responseSize(b []byte) (int, error) {
	head, _, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok {
		return 0, nil
	}
	status, fields, _ := bytes.Cut(head, []byte("\r\n"))
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return 0, fmt.Errorf("answer %q", status)
	}
	for line := range bytes.SplitSeq(fields, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !bytes.EqualFold(name, []byte("Content-Length")) {
			continue
		}
		size, err := strconv.Atoi(string(bytes.TrimSpace(value)))
		if err != nil || size < 0 {
			return 0, fmt.Errorf("Content-Length %q", value)
		}
		return len(head) + len("\r\n\r\n") + size, nil
	}
	return 0, errors.New("answer without Content-Length")
}
