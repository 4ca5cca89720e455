package redisbroker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/wire"
)

// Publish implements [fanfare.Broker]. It takes one round trip.
func (b *Broker) Publish(ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
	if o.History.Size <= 0 || o.History.TTL <= 0 {
		return b.pass(ctx, channel, p, o)
	}
	p.Position = fanfare.Position{}
	s := b.shard(channel)
	message := rueidis.BinaryString(wire.AppendPublication(make([]byte, 0, len(p.Data)+publicationOverhead), p))
	keys := []string{b.key(kindMeta, channel), b.key(kindStream, channel), ""}[:2]
	if o.IdempotencyKey != "" {
		keys = append(keys, b.repeatKey(channel, o.IdempotencyKey))
	}
	args := []string{
		b.epochs.next(), b.durable(), milliseconds(b.config.StreamTTL),
		message, b.key(kindLive, channel), s.publishCommand,
		strconv.Itoa(o.History.Size), milliseconds(o.History.TTL),
		strconv.FormatUint(o.Version, 10), o.VersionEpoch, milliseconds(o.IdempotencyTTL),
	}
	result, err := s.run(ctx, publishScript, keys, args)
	if err != nil {
		return fanfare.Position{}, err
	}
	at, err := positionOf(result)
	if err != nil {
		return fanfare.Position{}, err
	}
	p.Position = at
	return at, nil
}

// publicationOverhead is about what a publication with neither publisher nor tags has besides its data.
const publicationOverhead = 16

// pass publishes without storing.
func (b *Broker) pass(ctx context.Context, channel string, p *fanfare.Publication, o fanfare.StoreOptions) (fanfare.Position, error) {
	p.Position = fanfare.Position{}
	message := appendPassing(make([]byte, 0, len(p.Data)+publicationOverhead), p)
	if o.IdempotencyKey == "" {
		return fanfare.Position{}, b.send(ctx, b.shard(channel), b.key(kindLive, channel), message)
	}
	s := b.shard(channel)
	result, err := s.run(ctx, onceScript, []string{b.repeatKey(channel, o.IdempotencyKey)},
		[]string{rueidis.BinaryString(message), b.key(kindLive, channel), s.publishCommand, milliseconds(o.IdempotencyTTL)})
	if err != nil {
		return fanfare.Position{}, err
	}
	return positionOf(result)
}

// PublishMembership implements [fanfare.Broker].
func (b *Broker) PublishMembership(ctx context.Context, channel string, m fanfare.Membership) error {
	return b.send(ctx, b.shard(channel), b.key(kindLive, channel), appendMembership(nil, m))
}

// send publishes a message in a channel of Redis.
func (b *Broker) send(ctx context.Context, s *shard, name string, message []byte) error {
	_, err := s.do(ctx, name, func(ctx context.Context) rueidis.RedisResult {
		build := s.client.B()
		if s.cluster {
			return s.client.Do(ctx, build.Spublish().Channel(name).Message(rueidis.BinaryString(message)).Build())
		}
		return s.client.Do(ctx, build.Publish().Channel(name).Message(rueidis.BinaryString(message)).Build())
	})
	return err
}

var errPosition = errors.New("redisbroker: malformed position")

// positionOf reads "OFFSET EPOCH"; the empty text is that of a publication which is not stored.
func positionOf(result rueidis.RedisResult) (fanfare.Position, error) {
	text, err := result.ToString()
	if err != nil {
		return fanfare.Position{}, fmt.Errorf("%w: %w", errPosition, err)
	}
	if text == "" {
		return fanfare.Position{}, nil
	}
	offset, epoch, ok := strings.Cut(text, " ")
	n, err := strconv.ParseUint(offset, 10, 64)
	if !ok || err != nil || epoch == "" {
		return fanfare.Position{}, fmt.Errorf("%w: %q", errPosition, text)
	}
	return fanfare.Position{Offset: n, Epoch: epoch}, nil
}

// epochs makes names for lives of streams that no broker ever makes again: 50 random bits of this one and a count.
type epochs struct {
	prefix string
	count  atomic.Uint64
}

func (e *epochs) next() string {
	return e.prefix + strconv.FormatUint(e.count.Add(1), 36)
}

func newEpochPrefix() string { return rand.Text()[:10] }

func (b *Broker) durable() string {
	if b.config.Durable {
		return "1"
	}
	return "0"
}

// milliseconds rounds up: what lives shorter than a millisecond is not gone at once.
func milliseconds(d time.Duration) string {
	n := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		n++
	}
	return strconv.FormatInt(n, 10)
}
