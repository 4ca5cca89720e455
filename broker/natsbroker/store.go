package natsbroker

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// errConflict says that somebody else was faster.
var errConflict = errors.New("natsbroker: overtaken")

// errCrowded says that the server has too many batches under way.
var errCrowded = errors.New("natsbroker: the server takes no more batches at the moment")

// maxBatches is how many batches a broker has under way: a server takes 50 of one stream, of all brokers together.
const maxBatches = 16

// Codes of the server that the client library does not name.
const (
	codeBatchIncomplete jetstream.ErrorCode = 10176
	codeBatchesInflight jetstream.ErrorCode = 10210
)

// entry is a message to be stored: only if the last one of its subject has the given sequence number, 0 for none.
type entry struct {
	subject string
	expect  uint64
	ttl     time.Duration
	data    []byte
}

func (e entry) message() *nats.Msg {
	m := nats.NewMsg(e.subject)
	m.Data = e.data
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(e.expect, 10))
	// The server knows whole seconds.
	m.Header.Set(jetstream.MsgTTLHeader, strconv.FormatInt(int64((e.ttl+time.Second-1)/time.Second), 10))
	return m
}

// store stores one message and returns its sequence number.
func (b *Broker) store(ctx context.Context, e entry) (uint64, error) {
	return b.stored(b.js.PublishMsg(ctx, e.message(), jetstream.WithRetryAttempts(0)))
}

// storeBoth stores two messages in one step, and returns the sequence number of the second one.
func (b *Broker) storeBoth(ctx context.Context, first, second entry) (uint64, error) {
	select {
	case b.batches <- struct{}{}:
		defer func() { <-b.batches }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	id := rand.Text()
	m := first.message()
	m.Header.Set("Nats-Batch-Id", id)
	m.Header.Set("Nats-Batch-Sequence", "1")
	if err := b.nc.PublishMsg(m); err != nil {
		return 0, err
	}
	m = second.message()
	m.Header.Set("Nats-Batch-Id", id)
	m.Header.Set("Nats-Batch-Sequence", "2")
	m.Header.Set("Nats-Batch-Commit", "1")
	return b.stored(b.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0)))
}

func (b *Broker) stored(ack *jetstream.PubAck, err error) (uint64, error) {
	var refused *jetstream.APIError
	switch {
	case err == nil:
		b.saw(ack.Sequence)
		return ack.Sequence, nil
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		b.mend() // the stream is gone
		return 0, err
	case !errors.As(err, &refused):
		return 0, err
	}
	switch refused.ErrorCode {
	case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant:
		return 0, errConflict
	case codeBatchIncomplete, codeBatchesInflight:
		return 0, errCrowded
	}
	return 0, err
}

// last returns the last message of a subject; nil if there is none.
func (b *Broker) last(ctx context.Context, subject string) (data []byte, seq uint64, err error) {
	if b.replicated.Load() {
		return b.lastOfLeader(ctx, subject)
	}
	reply, err := b.nc.RequestWithContext(ctx, b.api+"DIRECT.GET."+b.config.Prefix+"."+subject, nil)
	if err != nil {
		return nil, 0, b.absent(err)
	}
	switch status := reply.Header.Get("Status"); status {
	case "":
		seq, err := strconv.ParseUint(reply.Header.Get(jetstream.SequenceHeader), 10, 64)
		return reply.Data, seq, err
	case "404":
		return nil, 0, nil
	default:
		return nil, 0, fmt.Errorf("status %s %s", status, reply.Header.Get("Description"))
	}
}

// lastOfLeader asks the server that leads the stream: of the others each may be a little behind.
func (b *Broker) lastOfLeader(ctx context.Context, subject string) (data []byte, seq uint64, err error) {
	request, err := json.Marshal(map[string]string{"last_by_subj": subject})
	if err != nil {
		return nil, 0, err
	}
	reply, err := b.nc.RequestWithContext(ctx, b.api+"STREAM.MSG.GET."+b.config.Prefix, request)
	if err != nil {
		return nil, 0, b.absent(err)
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Seq  uint64 `json:"seq"`
			Data []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return nil, 0, err
	}
	switch {
	case answer.Error == nil:
		return answer.Message.Data, answer.Message.Seq, nil
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, 0, nil
	}
	if answer.Error.ErrorCode == jetstream.JSErrCodeStreamNotFound {
		b.mend()
	}
	return nil, 0, answer.Error
}

// absent has the stream made again if nobody answers for it.
func (b *Broker) absent(err error) error {
	if errors.Is(err, nats.ErrNoResponders) {
		b.mend()
	}
	return err
}

// newest returns the newest record of a channel; one with seq 0 if there is none.
func (b *Broker) newest(ctx context.Context, channel string) (head, error) {
	data, seq, err := b.last(ctx, b.recordSubject(channel))
	if err != nil || seq == 0 {
		return head{}, err
	}
	m, err := parseMessage(data)
	if err != nil {
		return head{}, err
	}
	return m.head(seq)
}

// Bounds of one request for many messages.
const (
	scanBatch = 1000
	scanBytes = 4 << 20
)

type scanRequest struct {
	Seq      uint64 `json:"seq"`
	NextFor  string `json:"next_by_subj"`
	Batch    int    `json:"batch"`
	MaxBytes int    `json:"max_bytes"`
}

// scan calls f with the messages of a subject, from a sequence number on, until f returns false or there are no more. It asks for
// about n at once.
func (b *Broker) scan(ctx context.Context, subject string, from uint64, n int, f func(m *nats.Msg, seq uint64) bool) error {
	inbox := b.nc.NewRespInbox()
	replies, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		return err
	}
	defer func() { _ = replies.Unsubscribe() }()
	for more := true; more; {
		request, err := json.Marshal(scanRequest{from, subject, min(n, scanBatch), scanBytes})
		if err != nil {
			return err
		}
		if err := b.nc.PublishRequest(b.api+"DIRECT.GET."+b.config.Prefix, inbox, request); err != nil {
			return err
		}
		last, end, err := receive(ctx, replies, f)
		if err != nil {
			return b.absent(err)
		}
		more, from = !end && last > 0, last+1
	}
	return nil
}

// receive reads the answer to one request of a scan. It returns the last sequence number, and whether the scan is at its end.
func receive(ctx context.Context, replies *nats.Subscription, f func(m *nats.Msg, seq uint64) bool) (last uint64, end bool, err error) {
	for {
		m, err := replies.NextMsgWithContext(ctx)
		if err != nil {
			return 0, false, err
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204":
			return last, m.Header.Get("Nats-Num-Pending") == "0", nil
		case "404":
			return last, true, nil
		default:
			return 0, false, fmt.Errorf("status %s %s", status, m.Header.Get("Description"))
		}
		if last, err = strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64); err != nil {
			return 0, false, err
		}
		if !f(m, last) {
			return last, true, nil
		}
	}
}
