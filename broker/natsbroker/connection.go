package natsbroker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// mendPause is between two attempts to find the stream.
	mendPause = 200 * time.Millisecond
	// syncEvery is how often the server is asked for the time.
	syncEvery = time.Minute
)

// mend has the stream looked for, and made if it is gone.
func (b *Broker) mend() {
	select {
	case b.mending <- struct{}{}:
	default:
	}
}

// watch looks after the connection: when it is back, or the stream is gone, it finds or makes the stream, and tells the nodes.
func (b *Broker) watch(statuses chan nats.Status) {
	defer b.nc.RemoveStatusListener(statuses)
	pause := time.NewTimer(0) // to try again, while something is wrong
	pause.Stop()
	defer pause.Stop()
	away := false
	try := func(err error) {
		if !away {
			b.config.Logger.Warn("natsbroker: the server is away", slog.Any("err", err))
		}
		away = true
		pause.Reset(mendPause)
	}
	for {
		select {
		case <-b.closed:
			return
		case s, open := <-statuses:
			if !open {
				return // the connection is closed for good, and with it the broker
			}
			if s != nats.CONNECTED {
				try(errors.New("the connection is broken"))
				continue
			}
		case <-b.mending:
		case <-pause.C:
		}
		if !b.nc.IsConnected() {
			continue // the status tells when it is
		}
		if err := b.recover(); err != nil {
			try(err)
			continue
		}
		if away {
			away = false
			b.config.Logger.Info("natsbroker: the server is back")
		}
	}
}

// recover makes sure that the stream is there after something went wrong, and has the nodes look for what they have missed.
func (b *Broker) recover() error {
	ctx, cancel := context.WithTimeout(b.ctx, b.config.Timeout)
	defer cancel()
	reconnects := b.nc.Stats().Reconnects
	seen, made := b.seen.Load(), b.incarnated.Load()
	info, err := b.ensure(ctx)
	if err != nil {
		return err
	}
	if made == b.incarnated.Load() && info.State.LastSeq < seen && !b.replicated.Load() {
		// Whatever was behind the end is lost, of channels that nobody knows. With replicas it is another server that lags behind.
		b.config.Logger.Warn("natsbroker: the stream has lost its end: all channels begin anew", slog.Uint64("lost", seen-info.State.LastSeq))
		if err := b.purge(ctx, "", info.State.LastSeq+1); err != nil {
			return err
		}
		b.lanes.forget()
		b.seen.Store(info.State.LastSeq)
	}
	b.recovered.Store(reconnects)
	b.renew(ctx)
	for _, l := range b.attached() {
		l.interrupted(nil)
	}
	return nil
}

// ensure finds the stream, or makes it, and reads the server's clock.
func (b *Broker) ensure(ctx context.Context) (*jetstream.StreamInfo, error) {
	before := time.Now()
	s, err := b.js.Stream(ctx, b.config.Prefix)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = b.js.CreateStream(ctx, b.config.stream())
	}
	if err != nil {
		return nil, err
	}
	b.stream.Store(&s)
	info := s.CachedInfo()
	b.clock.set(info.TimeStamp, before, time.Now())
	if err := b.config.fits(info.Config); err != nil {
		return nil, err
	}
	b.replicated.Store(info.Config.Replicas > 1)
	if made := info.Created.UnixNano(); b.incarnated.Swap(made) != made {
		b.lanes.forget() // sequence numbers start over
		b.seen.Store(0)
	}
	b.saw(info.State.LastSeq)
	return info, nil
}

// stream is how the stream is to be.
func (c Config) stream() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:               c.Prefix,
		Description:        "channels of fanfare",
		Subjects:           []string{c.Prefix + ".s.>", c.Prefix + ".n.*"},
		Storage:            c.Storage,
		Replicas:           c.Replicas,
		RePublish:          &jetstream.RePublish{Source: c.Prefix + ".s.>", Destination: c.Prefix + ".l.>"},
		AllowDirect:        true,
		AllowMsgTTL:        true,
		AllowAtomicPublish: true,
	}
}

// fits checks a stream that somebody else has made, and that operators may have changed, as to its replicas and limits.
func (c Config) fits(have jetstream.StreamConfig) error {
	want := c.stream()
	if !slices.Equal(have.Subjects, want.Subjects) || have.RePublish == nil || *have.RePublish != *want.RePublish ||
		!have.AllowDirect || !have.AllowMsgTTL || !have.AllowAtomicPublish || have.DenyPurge || have.MaxMsgsPerSubject > 0 {
		return fmt.Errorf("there is a stream %q that is of something else", c.Prefix)
	}
	return nil
}

// purge is a range of a subject that is to be deleted: everything below a sequence number.
type purge struct {
	subject string
	below   uint64
}

func (b *Broker) purge(ctx context.Context, subject string, below uint64) error {
	options := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSequence(below)}
	if subject != "" {
		options = append(options, jetstream.WithPurgeSubject(subject))
	}
	return (*b.stream.Load()).Purge(ctx, options...)
}

// tidy has records deleted that nobody may read any more. If that fails, or too much waits, the next ones of the channel go with them,
// or the server deletes them when they are old.
func (b *Broker) tidy(p purge) {
	select {
	case b.purges <- p:
	default:
	}
}

// sync reads the server's clock. If that finds that the stream is another one, the nodes are to be told.
func (b *Broker) sync(ctx context.Context) {
	made := b.incarnated.Load()
	if _, err := b.ensure(ctx); err != nil || b.incarnated.Load() != made {
		b.mend() // reports what is wrong
	}
}

// housekeep deletes what is not needed, renews the leases of the nodes, and reads the server's clock, until the broker is closed.
func (b *Broker) housekeep() {
	lease := time.NewTicker(b.config.Lease / 3)
	defer lease.Stop()
	synced := time.NewTicker(syncEvery)
	defer synced.Stop()
	for {
		var work func(ctx context.Context)
		select {
		case <-b.closed:
			return
		case <-lease.C:
			work = b.renew
		case <-synced.C:
			work = b.sync
		case p := <-b.purges:
			work = func(ctx context.Context) { _ = b.purge(ctx, p.subject, p.below) }
		}
		if !b.nc.IsConnected() {
			continue
		}
		ctx, cancel := context.WithTimeout(b.ctx, b.config.Timeout)
		work(ctx)
		cancel()
	}
}
