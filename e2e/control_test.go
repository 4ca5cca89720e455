//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fanfare-go/fanfare"
)

// order is the body of a request to the control endpoint; each operation uses what it needs.
type order struct {
	Node    string            `json:"node"`
	User    string            `json:"user"`
	Channel string            `json:"channel"`
	Items   []json.RawMessage `json:"items"` // publications, in order
	Raw     *string           `json:"raw"`   // or one, byte by byte
	Tags    map[string]string `json:"tags"`
	Key     string            `json:"key"` // for idempotency
	Except  string            `json:"except"`
	Passing bool              `json:"passing"` // without history
	Cursor  string            `json:"cursor"`
	Offset  uint64            `json:"offset"`
	Epoch   string            `json:"epoch"`
	Script  script            `json:"script"`
	TTL     int               `json:"ttl"` // milliseconds
	Code    uint32            `json:"code"`
	Reason  string            `json:"reason"`
	Count   int               `json:"count"`
	Hold    bool              `json:"hold"`
}

func (s *server) serveControl(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if o.Node == "" {
		o.Node = "main"
	}
	reply, err := s.control(r.Context(), r.PathValue("operation"), &o)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(reply)
}

type positionReply struct {
	Offset uint64 `json:"offset"`
	Epoch  string `json:"epoch"`
}

func (s *server) control(ctx context.Context, operation string, o *order) (any, error) {
	n := s.node(o.Node)
	if n == nil && operation != "start" {
		return nil, fmt.Errorf("no node %q", o.Node)
	}
	switch operation {
	case "publish":
		return publish(ctx, n, o)
	case "top":
		h, err := n.History(ctx, o.Channel, fanfare.HistoryQuery{})
		return positionReply{h.Offset, h.Epoch}, err
	case "snapshot":
		return snapshot(ctx, n, o)
	case "position": // that a cursor holds
		positions, err := fanfare.DecodeCursor(o.Cursor, o.Channel)
		return positionReply{positions[o.Channel].Offset, positions[o.Channel].Epoch}, err
	case "cursor": // that holds a position
		at := fanfare.Position{Offset: o.Offset, Epoch: o.Epoch}
		return map[string]string{"cursor": fanfare.EncodeCursor(map[string]fanfare.Position{o.Channel: at})}, nil
	case "forget":
		return nil, n.RemoveHistory(ctx, o.Channel)
	case "subscribe":
		sc := &o.Script
		return nil, n.Subscribe(ctx, o.User, o.Channel, fanfare.SubscribeReply{Info: sc.Info, Data: sc.Reply, ExpireAt: sc.expireAt()})
	case "unsubscribe":
		return nil, n.Unsubscribe(ctx, o.User, o.Channel)
	case "disconnect":
		var d *fanfare.Disconnect
		if o.Code != 0 {
			d = &fanfare.Disconnect{Code: o.Code, Reason: o.Reason}
		}
		return nil, n.Disconnect(ctx, o.User, d)
	case "end_session":
		s.sessions.end(o.User)
		return nil, nil
	case "refresh":
		return nil, n.Refresh(ctx, o.User, after(o.TTL))
	case "presence":
		stats, err := n.PresenceStats(ctx, o.Channel)
		return map[string]int{"clients": stats.Clients, "users": stats.Users}, err
	case "diary":
		return s.diary.marshal(o.User)
	case "lose":
		for _, b := range s.losses {
			b.loseNext(o.Channel, o.Count)
		}
		return nil, nil
	case "handed": // over by the brokers: those that are published may still be on their way
		count := 0
		for _, b := range s.losses {
			count += b.handedOver(o.Channel)
		}
		return count, nil
	case "cut":
		s.gate.set(o.User, o.Hold)
		s.network.cut(o.User)
		return nil, nil
	case "bar": // who comes; who is there stays
		s.gate.set(o.User, true)
		return nil, nil
	case "admit":
		s.gate.set(o.User, false)
		return nil, nil
	case "stop":
		return nil, s.stop(o.Node)
	case "start":
		return nil, s.start(o.Node, s.lifeConfig())
	}
	return nil, fmt.Errorf("no operation %q", operation)
}

func publish(ctx context.Context, n *fanfare.Node, o *order) (any, error) {
	var opts []fanfare.PublishOption
	if o.Tags != nil {
		opts = append(opts, fanfare.WithTags(o.Tags))
	}
	if o.Key != "" {
		opts = append(opts, fanfare.WithIdempotencyKey(o.Key))
	}
	if o.Passing {
		opts = append(opts, fanfare.WithoutHistory())
	}
	opts = append(opts, fanfare.WithoutClient(o.Except))
	if o.Raw != nil {
		o.Items = append(o.Items, json.RawMessage(*o.Raw))
	}
	var top fanfare.Position
	for _, item := range o.Items {
		var err error
		if top, err = n.Publish(ctx, o.Channel, item, opts...); err != nil {
			return nil, err
		}
	}
	return positionReply{top.Offset, top.Epoch}, nil
}

// snapshot is a page's start: the state is what the channel keeps, and items are published while it is read.
func snapshot(ctx context.Context, n *fanfare.Node, o *order) (any, error) {
	state, positions, err := fanfare.Snapshot(ctx, n, func(ctx context.Context) ([]json.RawMessage, error) {
		h, err := n.History(ctx, o.Channel, fanfare.HistoryQuery{Limit: -1})
		if err != nil {
			return nil, err
		}
		state := []json.RawMessage{}
		for _, p := range h.Publications {
			state = append(state, p.Data)
		}
		_, err = publish(ctx, n, o)
		return state, err
	}, o.Channel)
	return map[string]any{"state": state, "positions": positions}, err
}

// stop shuts a node down and takes it away, so that its users meet a server without it.
func (s *server) stop(name string) error {
	s.mu.Lock()
	replicas := s.nodes[name]
	delete(s.nodes, name)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, n := range replicas {
		if err := n.Shutdown(ctx); err != nil {
			return err
		}
		if n.Ready() == nil {
			return errors.New("a node that was shut down is ready")
		}
	}
	return nil
}
