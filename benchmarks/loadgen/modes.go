//go:build linux

package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// session is one run of one mode.
type session struct {
	o   options
	e   *engine
	ctl control
	res result
}

func run(o options) (*result, error) {
	var c codec
	switch o.protocol {
	case "json":
		c = jsonCodec{}
	case "protobuf":
		c = protobufCodec{}
	default:
		return nil, fmt.Errorf("unknown protocol %q", o.protocol)
	}
	if !(o.stall >= 0 && o.stall < 1) || o.stall > 0 && o.mode != "fanout" {
		return nil, fmt.Errorf("-stall %v must be from 0 to less than 1, and is for the mode fanout", o.stall)
	}
	e, err := newEngine(o.addr, o.path, c, o.concurrency)
	if err != nil {
		return nil, err
	}
	defer e.close()
	s := &session{o: o, e: e, ctl: control{base: o.control}}
	s.res = result{Mode: o.mode, Label: o.label, Protocol: o.protocol, Conns: o.conns, Channels: o.channels}
	modes := map[string]func() error{
		"connect": s.connect,
		"idle":    s.idle,
		"fanout":  s.fanout,
		"many":    s.many,
		"recover": s.recover,
		"app":     s.app,
	}
	f, ok := modes[o.mode]
	if !ok {
		return nil, fmt.Errorf("unknown mode %q", o.mode)
	}
	if err := f(); err != nil {
		return nil, err
	}
	st := &s.e.stats
	s.res.OutOfOrder = st.outOfOrder
	s.res.Closed, s.res.Failed, s.res.FirstError = st.closed, st.failed, st.firstError
	return &s.res, nil
}

var errTimeout = errors.New("timeout")

// until polls until done is true.
func (s *session) until(what string, done func() bool) error {
	deadline := time.Now().Add(s.o.timeout)
	for !done() {
		if err := s.e.poll(20 * time.Millisecond); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %w", what, errTimeout)
		}
	}
	return nil
}

// pause keeps serving the connections (server pings) for some time.
func (s *session) pause(d time.Duration) error {
	end := time.Now().Add(d)
	for time.Now().Before(end) {
		if err := s.e.poll(10 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// channelName is the name of channel i, as the server builds it for a publish
// with channels > 0.
func (s *session) channelName(i int) string {
	if s.o.channels <= 0 {
		return s.o.channel
	}
	return s.o.channel + strconv.Itoa(i%s.o.channels)
}

// openAll opens all connections and waits until every one is subscribed.
func (s *session) openAll() error {
	subs := make([]subscribeArgs, s.o.conns)
	for i := range subs {
		subs[i].channel = s.channelName(i)
	}
	s.e.open(subs)
	for i := range s.stalled() {
		s.e.conns[i*s.o.conns/s.stalled()].stalls = true
	}
	return s.untilAllReady("connect")
}

// stalled is how many connections stop reading.
func (s *session) stalled() int { return int(s.o.stall * float64(s.o.conns)) }

func (s *session) untilAllReady(what string) error {
	st := &s.e.stats
	err := s.until(what, func() bool { return st.ready+st.failed+st.closed >= s.o.conns })
	if err != nil {
		return fmt.Errorf("%w (%d of %d ready, %d failed: %s)", err, st.ready, s.o.conns, st.failed, st.firstError)
	}
	if st.ready < s.o.conns {
		return fmt.Errorf("%s: %d of %d connections ready: %s", what, st.ready, s.o.conns, st.firstError)
	}
	return nil
}

// measure runs f and records the time and the CPU time it took.
func (s *session) measure(f func() error) error {
	var u0, s0 float64
	if s.o.pid != 0 {
		var err error
		if u0, s0, err = procCPU(s.o.pid); err != nil {
			return err
		}
	}
	own0, start := ownCPU(), time.Now()
	if err := f(); err != nil {
		return err
	}
	s.res.Seconds = time.Since(start).Seconds()
	s.res.ClientCPUSeconds = round((ownCPU() - own0).Seconds(), 3)
	if s.o.pid == 0 {
		return nil
	}
	u1, s1, err := procCPU(s.o.pid)
	if err != nil {
		return err
	}
	s.res.ServerUserSeconds = round(u1-u0, 2)
	s.res.ServerSysSeconds = round(s1-s0, 2)
	s.res.ServerCPUSeconds = round(u1-u0+s1-s0, 2)
	return nil
}

func (s *session) rssMB() float64 { return s.memoryMB(residentNow) }

func (s *session) memoryMB(name string) float64 {
	if s.o.pid == 0 {
		return 0
	}
	b, err := procMemory(s.o.pid, name)
	if err != nil {
		return 0
	}
	return round(float64(b)/(1<<20), 2)
}

func (s *session) connect() error {
	if err := s.measure(s.openAll); err != nil {
		return err
	}
	s.connectResult()
	return nil
}

func (s *session) connectResult() {
	n := float64(s.o.conns)
	s.res.ConnectPerSecond = round(n/s.res.Seconds, 0)
	s.res.CPUPerKConnect = round(s.res.ServerCPUSeconds/n*1000, 4)
	s.res.SetupP50Ms = ms(s.e.stats.setup.quantile(0.5))
	s.res.SetupP99Ms = ms(s.e.stats.setup.quantile(0.99))
}

// idle reports memory. BytesPerConn compares the memory after a garbage
// collection with the memory, also after one, before the first connection.
func (s *session) idle() error {
	if s.o.gc {
		s.ctl.gc()
	}
	s.res.RSSBeforeMB = s.rssMB()
	before := s.ctl.memStats()
	if err := s.measure(s.openAll); err != nil {
		return err
	}
	s.connectResult()
	if err := s.pause(s.o.settle); err != nil {
		return err
	}
	s.res.RSSMB = s.rssMB()
	if err := s.pause(s.o.hold); err != nil {
		return err
	}
	if s.o.gc {
		s.ctl.gc()
	}
	s.res.RSSAfterGCMB = s.rssMB()
	s.res.BytesPerConn = round((s.res.RSSAfterGCMB-s.res.RSSBeforeMB)*(1<<20)/float64(s.o.conns), 0)
	s.res.MemStats = s.ctl.memStats()
	g0, ok0 := before["goroutines"].(float64)
	g1, ok1 := s.res.MemStats["goroutines"].(float64)
	if ok0 && ok1 {
		per := round((g1-g0)/float64(s.o.conns), 3)
		s.res.GoroutinesPerConn = &per
	}
	return nil
}

// recover measures a reconnect storm: all clients lose their connection, the
// given number of messages is published to every channel meanwhile, then all
// clients come back at once and recover.
func (s *session) recover() error {
	s.e.onSubscribed = func(c *clientConn, ev event) {
		if !c.sub.recover {
			c.sub.offset, c.sub.epoch = ev.offset, string(ev.epoch)
		}
	}
	if err := s.openAll(); err != nil {
		return err
	}
	s.e.dropAll()
	time.Sleep(s.o.settle)
	for i := range max(1, s.o.channels) {
		if err := s.ctl.publish(publishArgs{channel: s.channelName(i), count: s.o.missed, size: s.o.size}); err != nil {
			return err
		}
	}
	time.Sleep(500 * time.Millisecond)
	for i := range s.e.conns {
		s.e.conns[i].sub.recover = true
	}
	st := &s.e.stats
	st.setup.reset()
	err := s.measure(func() error {
		s.e.reopen()
		return s.untilAllReady("recover")
	})
	if err != nil {
		return err
	}
	s.connectResult()
	s.res.Size = s.o.size
	s.res.Recovered = st.recovered
	s.res.RecoveredMissed = st.missed
	return nil
}
