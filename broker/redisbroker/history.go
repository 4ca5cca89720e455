package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/wire"
)

// History implements [fanfare.Broker]. It takes one round trip. A server answers nobody else while it collects the publications, so
// large streams are to be read in pages.
func (b *Broker) History(ctx context.Context, channel string, q fanfare.HistoryQuery) (fanfare.HistoryResult, error) {
	args := append(make([]string, 0, 7), b.epochs.next(), b.durable(), milliseconds(b.config.StreamTTL))
	result, err := b.shard(channel).run(ctx, historyScript,
		[]string{b.key(kindMeta, channel), b.key(kindStream, channel)}, appendRange(args, q))
	if err != nil {
		return fanfare.HistoryResult{}, err
	}
	h, err := historyOf(result)
	if err != nil {
		return fanfare.HistoryResult{}, fmt.Errorf("redisbroker: history of %q: %w", channel, err)
	}
	return h, nil
}

// appendRange appends what a query asks for: limit, order, first and last offset.
func appendRange(args []string, q fanfare.HistoryQuery) []string {
	limit, first, last := q.Limit, "-", "+"
	reverse := "0"
	if q.Reverse {
		reverse = "1"
	}
	switch {
	case q.Since == nil:
	case q.Reverse && q.Since.Offset == 0:
		limit = 0 // nothing comes before
	case q.Reverse:
		last = strconv.FormatUint(q.Since.Offset-1, 10)
	case q.Since.Offset+1 == 0:
		limit = 0 // nor behind
	default:
		first = strconv.FormatUint(q.Since.Offset+1, 10)
	}
	return append(args, strconv.Itoa(limit), reverse, first, last)
}

var errHistory = errors.New("malformed entry")

// historyOf reads the epoch, the top and the entries, each of an id and a list with a field's name and the publication.
func historyOf(result rueidis.RedisResult) (fanfare.HistoryResult, error) {
	parts, err := result.ToArray()
	if err != nil {
		return fanfare.HistoryResult{}, err
	}
	if len(parts) != 3 {
		return fanfare.HistoryResult{}, errHistory
	}
	var h fanfare.HistoryResult
	if h.Epoch, err = parts[0].ToString(); err != nil {
		return h, err
	}
	top, err := parts[1].AsInt64()
	if err != nil {
		return h, err
	}
	h.Offset = uint64(top)
	entries, err := parts[2].ToArray()
	if err != nil || len(entries) == 0 {
		return h, err
	}
	h.Publications = make([]*fanfare.Publication, len(entries))
	for i := range entries {
		if h.Publications[i], err = entryOf(&entries[i], h.Epoch); err != nil {
			return fanfare.HistoryResult{}, err
		}
	}
	return h, nil
}

func entryOf(entry *rueidis.RedisMessage, epoch string) (*fanfare.Publication, error) {
	parts, err := entry.ToArray()
	if err != nil || len(parts) != 2 {
		return nil, errHistory
	}
	id, err := parts[0].ToString()
	if err != nil {
		return nil, err
	}
	number, _, _ := strings.Cut(id, "-")
	offset, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return nil, err
	}
	fields, err := parts[1].AsStrSlice()
	if err != nil || len(fields) != 2 {
		return nil, errHistory
	}
	p, err := wire.Publication([]byte(fields[1]))
	if err != nil {
		return nil, err
	}
	p.Position = fanfare.Position{Offset: offset, Epoch: epoch}
	return p, nil
}

// RemoveHistory implements [fanfare.Broker].
func (b *Broker) RemoveHistory(ctx context.Context, channel string) error {
	_, err := b.shard(channel).run(ctx, removeScript, []string{b.key(kindMeta, channel), b.key(kindStream, channel)}, nil)
	return err
}
