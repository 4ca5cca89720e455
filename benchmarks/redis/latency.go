//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare"
)

const (
	warmUp     = 500
	deliveries = 5_000
	// spacing is that of messages at the moderate rate.
	spacing = time.Millisecond

	arrivalTimeout = 10 * time.Second
)

const (
	bareLink = "bare Redis"
	toSink   = "the broker"
	toClient = "the node"
)

func latency() scenario {
	s := scenario{name: "latency"}
	for _, c := range []struct {
		name string
		open func(context.Context, *server, func(n int)) (*link, error)
	}{{bareLink, openBare}, {toSink, openSink}, {toClient, openClient}} {
		s.cases = append(s.cases, measured{c.name, func(ctx context.Context, s *server, size sizes) (figures, error) {
			return measureLatency(ctx, s, size, c.open)
		}})
	}
	for _, at := range []struct{ words, key string }{{"one at a time", "single"}, {"1,000/s", "paced"}} {
		s.rows = append(s.rows,
			row{what: "p50, ms, the script and SUBSCRIBE, bare, " + at.words, case_: bareLink, key: at.key},
			row{what: "p50, ms, `broker.Publish` to the sink of another broker, " + at.words, case_: toSink, key: at.key, against: bareLink, difference: true},
			row{
				what: "p50, ms, `node.Publish` to the socket of a client of another node, " + at.words, case_: toClient, key: at.key,
				against: bareLink, difference: true, targetWords: "< 1 ms added",
			},
			row{what: "p99, ms, bare, " + at.words, case_: bareLink, key: at.key + " p99"},
			row{what: "p99, ms, node, " + at.words, case_: toClient, key: at.key + " p99", against: bareLink, difference: true})
	}
	return s
}

// link is a way from a publisher to a subscriber.
type link struct {
	send  func(n int) error // returns when Redis has acknowledged
	close func()
}

// measureLatency sends messages one at a time, each after the one before has arrived, and then at a rate.
func measureLatency(
	ctx context.Context, s *server, size sizes, open func(context.Context, *server, func(n int)) (*link, error),
) (figures, error) {
	t := &track{got: make(chan int, warmUp+2*deliveries)}
	l, err := open(ctx, s, t.arrive)
	if err != nil {
		return nil, err
	}
	defer l.close()
	f := make(figures)
	if err := t.run(ctx, l, size.of(warmUp), 0, "", f); err != nil {
		return nil, err
	}
	if err := t.run(ctx, l, size.of(deliveries), 0, "single", f); err != nil {
		return nil, err
	}
	if err := t.run(ctx, l, size.of(deliveries), spacing, "paced", f); err != nil {
		return nil, err
	}
	return f, nil
}

// track is when messages were sent and came. Each place of the arrays is written once, before got tells of it.
type track struct {
	sent, arrived [warmUp + 2*deliveries]time.Time
	next          int
	got           chan int
}

func (t *track) arrive(n int) {
	t.arrived[n] = time.Now()
	t.got <- n
}

func (t *track) run(ctx context.Context, l *link, count int, every time.Duration, name string, f figures) error {
	first, due := t.next, time.Now()
	for range count {
		if every > 0 {
			due = due.Add(every)
			time.Sleep(time.Until(due))
		}
		n := t.next
		t.next++
		t.sent[n] = time.Now()
		if err := l.send(n); err != nil {
			return err
		}
		if every == 0 {
			if err := t.await(ctx, 1); err != nil {
				return err
			}
		}
	}
	if every > 0 {
		if err := t.await(ctx, count); err != nil {
			return err
		}
	}
	if name != "" {
		var took []float64
		for n := first; n < t.next; n++ {
			took = append(took, t.arrived[n].Sub(t.sent[n]).Seconds()*1000)
		}
		slices.Sort(took)
		f[name], f[name+" p99"] = took[len(took)/2], took[len(took)*99/100]
	}
	return nil
}

func (t *track) await(ctx context.Context, count int) error {
	timeout := time.NewTimer(arrivalTimeout)
	defer timeout.Stop()
	for range count {
		select {
		case <-t.got:
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			return errors.New("a message did not arrive")
		}
	}
	return nil
}

// openBare connects two minimal clients. One calls the script of the broker, the other one is subscribed.
func openBare(ctx context.Context, s *server, arrive func(n int)) (*link, error) {
	call, err := captureCall(ctx, s)
	if err != nil {
		return nil, err
	}
	publisher, err := dial(s.addr)
	if err != nil {
		return nil, err
	}
	subscriber, err := dial(s.addr)
	if err != nil {
		_ = publisher.Close()
		return nil, err
	}
	at := messageIn(call)
	before, after, _ := strings.Cut(call[at], string(message(0)))
	if _, err := subscriber.do("SUBSCRIBE", call[at+1]); err != nil {
		return nil, err
	}
	read := make(chan struct{})
	go func() { // ends with the connection
		defer close(read)
		for {
			reply, err := subscriber.receive()
			if err != nil {
				return
			}
			if n, ok := numberOf(reply[len(reply)-1]); ok {
				arrive(n)
			}
		}
	}()
	return &link{
		send: func(n int) error {
			call[at] = before + string(message(n)) + after
			_, err := publisher.do(call...)
			return err
		},
		close: func() {
			_ = publisher.Close()
			_ = subscriber.Close()
			<-read
		},
	}, nil
}

// numberOf returns the number of a message, wherever it stands in text.
func numberOf(text string) (int, bool) {
	_, rest, ok := strings.Cut(text, numbered)
	digits, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil
}

// openSink subscribes with a broker and publishes with another one.
func openSink(ctx context.Context, s *server, arrive func(n int)) (*link, error) {
	return between(ctx, s, func(subscriber *rig) (func(), error) {
		l, err := subscriber.broker.Attach("bench", sink(arrive))
		if err != nil {
			return nil, err
		}
		return func() { _ = l.Close() }, l.Subscribe(ctx, channel)
	}, func(publisher *rig, n int) error {
		_, err := publisher.broker.Publish(ctx, channel, &fanfare.Publication{Data: message(n)}, fanfare.StoreOptions{History: history})
		return err
	})
}

// between opens a link from one rig to another one.
func between(
	ctx context.Context, s *server, subscribe func(*rig) (end func(), err error), send func(r *rig, n int) error,
) (*link, error) {
	publisher, err := newRig(ctx, s)
	if err != nil {
		return nil, err
	}
	subscriber, err := newRig(ctx, s)
	if err != nil {
		publisher.close()
		return nil, err
	}
	end, err := subscribe(subscriber)
	if err != nil {
		publisher.close()
		subscriber.close()
		return nil, err
	}
	return &link{
		send: func(n int) error { return send(publisher, n) },
		close: func() {
			end()
			publisher.close()
			subscriber.close()
		},
	}, nil
}

// sink tells of publications.
type sink func(n int)

func (s sink) Publication(_ string, p *fanfare.Publication) {
	if n, ok := numberOf(string(p.Data)); ok {
		s(n)
	}
}
func (sink) Membership(string, fanfare.Membership) {}
func (sink) Control([]byte)                        {}

// openClient publishes at one node, and reads at a socket of another one, as EventSource does.
func openClient(ctx context.Context, s *server, arrive func(n int)) (*link, error) {
	return between(ctx, s, func(subscriber *rig) (func(), error) {
		return listen(ctx, subscriber.node, arrive)
	}, func(publisher *rig, n int) error {
		_, err := publisher.node.Publish(ctx, channel, message(n))
		return err
	})
}

func listen(ctx context.Context, node *fanfare.Node, arrive func(n int)) (end func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: node}
	go func() { _ = server.Serve(l) }() // ends with Close
	ctx, cancel := context.WithCancel(ctx)
	read := make(chan struct{})
	end = func() {
		cancel()
		<-read
		_ = server.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.Addr().String()+"/events?channel="+channel, nil)
	if err != nil {
		close(read)
		end()
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		close(read)
		end()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		close(read)
		end()
		return nil, fmt.Errorf("the node answered %s", resp.Status)
	}
	go func() {
		defer close(read)
		defer resp.Body.Close()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if n, ok := numberOf(lines.Text()); ok && bytes.HasPrefix(lines.Bytes(), []byte("data:")) {
				arrive(n)
			}
		}
	}()
	return end, nil
}
