//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// defaultAppRate is modest: the requests cost the server far less than a fan-out.
const defaultAppRate = 200

func (s *session) fanout() error { return s.publishRun(s.o.conns) }

func (s *session) many() error {
	if s.o.channels < 1 || s.o.conns%s.o.channels != 0 {
		return errors.New("many: -channels must divide -n")
	}
	return s.publishRun(s.o.conns / s.o.channels)
}

// publishRun measures o.count publications that each have the given number of
// subscribers.
func (s *session) publishRun(subscribers int) error {
	if err := s.openAll(); err != nil {
		return err
	}
	if err := s.publishPhase(s.o.warmup, subscribers); err != nil {
		return fmt.Errorf("warm-up: %w", err)
	}
	if stalled := s.stalled(); stalled > 0 {
		if err := s.e.stall(); err != nil {
			return err
		}
		subscribers -= stalled
	}
	if err := s.pause(300 * time.Millisecond); err != nil {
		return err
	}
	st := &s.e.stats
	st.latency.reset()
	pubs0, frames0, reads0 := st.pubs, st.frames, st.reads
	s.res.RSSBeforeMB = s.rssMB()
	err := s.measure(func() error {
		return s.probed(func() error { return s.publishPhase(s.o.count, subscribers) })
	})
	if err != nil && !errors.Is(err, errTimeout) {
		return err
	}
	r := &s.res
	r.Size, r.Rate = s.o.size, s.o.rate
	if r.Rate == 0 {
		r.Window = s.o.window
	}
	r.Expected = s.o.count * subscribers
	r.Delivered = st.pubs - pubs0
	if err != nil {
		return fmt.Errorf("%w: %d of %d delivered, %d connections closed: %s", err, r.Delivered, r.Expected, st.closed, st.firstError)
	}
	r.DeliveredPerSecond = round(float64(r.Delivered)/r.Seconds, 0)
	r.CPUPerMillion = round(r.ServerCPUSeconds/float64(r.Delivered)*1e6, 3)
	r.LatencyP50Ms = ms(st.latency.quantile(0.5))
	r.LatencyP99Ms = ms(st.latency.quantile(0.99))
	r.LatencyP999Ms = ms(st.latency.quantile(0.999))
	r.LatencyMaxMs = ms(time.Duration(st.latency.max))
	r.PubsPerFrame = round(float64(r.Delivered)/float64(st.frames-frames0), 2)
	r.PubsPerRead = round(float64(r.Delivered)/float64(st.reads-reads0), 2)
	r.RSSMB, r.RSSPeakMB = s.rssMB(), s.memoryMB(residentPeak)
	return s.stallResult()
}

// stallResult finds out which of the stalled connections the server has given up, by reading again.
func (s *session) stallResult() error {
	s.res.Stalled = s.stalled()
	if s.res.Stalled == 0 {
		return nil
	}
	if err := s.e.resume(); err != nil {
		return err
	}
	// A close comes behind all that the sockets hold.
	st := &s.e.stats
	deadline := time.Now().Add(s.o.timeout)
	for reads := -1; st.stalledClosed < s.res.Stalled && st.stalledReads != reads && time.Now().Before(deadline); {
		reads = st.stalledReads
		if err := s.pause(s.o.settle); err != nil {
			return err
		}
	}
	s.res.StalledClosed = st.stalledClosed
	return nil
}

// probed runs f while an ordinary handler is asked, if that is wanted.
func (s *session) probed(f func() error) error {
	if s.o.appRate == 0 {
		return f()
	}
	p, err := newProbe(s.e, s.o.appPath, s.o.appRate)
	if err != nil {
		return err
	}
	p.start()
	err = f()
	err = errors.Join(err, p.finish())
	r := &s.res
	r.AppRequests = p.latency.total
	r.AppP50Ms, r.AppP99Ms = ms(p.latency.quantile(0.5)), ms(p.latency.quantile(0.99))
	r.AppMaxMs = ms(time.Duration(p.latency.max))
	return err
}

// app asks the ordinary handler beside connections that are idle.
func (s *session) app() error {
	if err := s.openAll(); err != nil {
		return err
	}
	if err := s.pause(s.o.settle); err != nil {
		return err
	}
	s.o.appRate = cmp.Or(s.o.appRate, defaultAppRate)
	return s.measure(func() error {
		return s.probed(func() error { return s.pause(s.o.hold) })
	})
}

// publishPhase has count messages published and waits for their delivery to
// all subscribers. With a rate the server paces itself; without, messages are
// asked for in half windows as earlier ones arrive.
func (s *session) publishPhase(count, subscribers int) error {
	if count == 0 {
		return nil
	}
	st := &s.e.stats
	pubs0 := st.pubs
	var delivered atomic.Int64
	wake := make(chan struct{}, 1)
	failed := make(chan error, 1)
	args := publishArgs{channel: s.o.channel, channels: s.o.channels, count: count, rate: s.o.rate, size: s.o.size}
	go func() {
		if s.o.rate > 0 {
			failed <- s.ctl.publish(args)
			return
		}
		sent := 0
		for sent < count {
			room := s.o.window - (sent - int(delivered.Load())/subscribers)
			want := min(count-sent, (s.o.window+1)/2)
			if room < want {
				<-wake
				continue
			}
			args.count = min(room, count-sent)
			if err := s.ctl.publish(args); err != nil {
				failed <- err
				return
			}
			sent += args.count
		}
		failed <- nil
	}()
	err := s.until("publish", func() bool {
		d := st.pubs - pubs0
		delivered.Store(int64(d))
		select {
		case wake <- struct{}{}:
		default:
		}
		return d >= count*subscribers || st.ready == 0
	})
	if err != nil {
		return err
	}
	return <-failed
}
