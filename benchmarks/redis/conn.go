package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// conn is the least that a client of Redis can be.
type conn struct {
	net.Conn
	r *bufio.Reader
	w []byte
}

func dial(addr string) (*conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, r: bufio.NewReader(c)}, nil
}

// do sends a command and returns the reply as text.
func (c *conn) do(args ...string) (string, error) {
	if err := c.send(args...); err != nil {
		return "", err
	}
	reply, err := c.receive()
	return strings.Join(reply, " "), err
}

func (c *conn) send(args ...string) error {
	c.w = fmt.Appendf(c.w[:0], "*%d\r\n", len(args))
	for _, a := range args {
		c.w = fmt.Appendf(c.w, "$%d\r\n%s\r\n", len(a), a)
	}
	_, err := c.Write(c.w)
	return err
}

// receive returns a reply, the elements of arrays one after the other.
func (c *conn) receive() ([]string, error) {
	line, err := c.line()
	if err != nil {
		return nil, err
	}
	if line == "" {
		return nil, errors.New("redis: empty reply")
	}
	kind, text := line[0], line[1:]
	switch kind {
	case '+', ':':
		return []string{text}, nil
	case '-':
		return nil, errors.New("redis: " + text)
	}
	n, err := strconv.Atoi(text)
	if err != nil || kind != '$' && kind != '*' {
		return nil, fmt.Errorf("redis: malformed reply %q", line)
	}
	if kind == '$' {
		if n < 0 {
			return []string{""}, nil
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(c.r, b); err != nil {
			return nil, err
		}
		return []string{string(b[:n])}, nil
	}
	var all []string
	for range n {
		element, err := c.receive()
		if err != nil {
			return nil, err
		}
		all = append(all, element...)
	}
	return all, nil
}

func (c *conn) line() (string, error) {
	line, err := c.r.ReadString('\n')
	return strings.TrimSuffix(line, "\r\n"), err
}
