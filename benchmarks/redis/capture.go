//go:build linux

package main

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare"
)

// captureCall has the broker publish and returns the command that it sent.
func captureCall(ctx context.Context, s *server) ([]string, error) {
	r, err := newRig(ctx, s)
	if err != nil {
		return nil, err
	}
	defer r.close()
	publish := func() error {
		_, err := r.broker.Publish(ctx, channel, &fanfare.Publication{Data: message(0)}, fanfare.StoreOptions{History: history})
		return err
	}
	if err := publish(); err != nil { // loads the script
		return nil, err
	}
	monitor, err := dial(s.addr)
	if err != nil {
		return nil, err
	}
	defer monitor.Close()
	if err := monitor.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		return nil, err
	}
	if _, err := monitor.do("MONITOR"); err != nil {
		return nil, err
	}
	if err := publish(); err != nil {
		return nil, err
	}
	for {
		line, err := monitor.line()
		if err != nil {
			return nil, err
		}
		// Leases are kept by scripts, too.
		if call := parseMonitor(line); len(call) > 0 && strings.EqualFold(call[0], "EVALSHA") && messageIn(call) >= 0 {
			return call, nil
		}
	}
}

// messageIn returns which argument of a call holds the message.
func messageIn(call []string) int {
	return slices.IndexFunc(call, func(arg string) bool { return strings.Contains(arg, numbered) })
}

// parseMonitor returns the words of a line of MONITOR: +TIME [DB CLIENT] "WORD" "WORD".
func parseMonitor(line string) []string {
	_, rest, ok := strings.Cut(line, "] ")
	var words []string
	for ok && rest != "" {
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			return nil
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil
		}
		words = append(words, word)
		rest = strings.TrimPrefix(rest[len(quoted):], " ")
	}
	return words
}
