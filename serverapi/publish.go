package serverapi

import (
	"context"
	"encoding/json"

	"golang.org/x/sync/errgroup"

	"github.com/fanfare-go/fanfare"
)

// publication is what publish and broadcast have in common.
type publication struct {
	Data           json.RawMessage   `json:"data"`
	B64Data        string            `json:"b64data"`
	SkipHistory    bool              `json:"skip_history"`
	Tags           map[string]string `json:"tags"`
	IdempotencyKey string            `json:"idempotency_key"`
	Version        uint64            `json:"version"`
	VersionEpoch   string            `json:"version_epoch"`
}

type publishRequest struct {
	Channel string `json:"channel"`
	publication
}

type broadcastRequest struct {
	Channels []string `json:"channels"`
	publication
}

type publishResult struct {
	Offset uint64 `json:"offset,omitempty"`
	Epoch  string `json:"epoch,omitempty"`
}

type broadcastResult struct {
	Responses []answer `json:"responses"`
}

func (a *api) publish(ctx context.Context, r *publishRequest) (publishResult, error) {
	return a.publishTo(ctx, r.Channel, &r.publication)
}

func (a *api) broadcast(ctx context.Context, r *broadcastRequest) (broadcastResult, error) {
	if len(r.Channels) == 0 || len(r.Channels) > a.config.MaxItems {
		return broadcastResult{}, errBadRequest
	}
	if data, _, err := either(r.Data, r.B64Data); data == nil || err != nil {
		return broadcastResult{}, errBadRequest
	}
	responses := make([]answer, len(r.Channels))
	var group errgroup.Group // waited for below
	group.SetLimit(a.config.Concurrency)
	for i, channel := range r.Channels {
		group.Go(func() error {
			result, err := a.publishTo(ctx, channel, &r.publication)
			if err != nil {
				responses[i].Error = a.apiErrorOf(ctx, "broadcast", err)
				return nil
			}
			responses[i].Result = result
			return nil
		})
	}
	_ = group.Wait()
	return broadcastResult{responses}, nil
}

func (a *api) publishTo(ctx context.Context, channel string, p *publication) (publishResult, error) {
	data, binary, err := either(p.Data, p.B64Data)
	if err != nil || data == nil || channel == "" {
		return publishResult{}, errBadRequest
	}
	kind, err := a.node.Payload(channel)
	if err != nil {
		return publishResult{}, err
	}
	if !binary && kind != fanfare.PayloadJSON {
		var text string // which is what the channel carries
		if json.Unmarshal(data, &text) != nil {
			return publishResult{}, errBadRequest
		}
		data = []byte(text)
	}
	position, err := a.node.Publish(ctx, channel, data, p.options()...)
	if err != nil {
		return publishResult{}, err
	}
	return publishResult(position), nil
}
