//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

const (
	channel = "bench:1"
	payload = 128
)

var history = fanfare.History{Size: 100, TTL: 10 * time.Minute}

// message returns a JSON payload with a number in it, which all have the same length.
func message(n int) []byte {
	text := fmt.Sprintf(numbered+`%08d,"text":"`, n)
	return []byte(text + strings.Repeat("x", payload-len(text)-2) + `"}`)
}

const numbered = `{"n":1`

// rig is a machine of an app: a broker of its own, and a node.
type rig struct {
	broker *redisbroker.Broker
	node   *fanfare.Node
}

func newRig(ctx context.Context, s *server) (*rig, error) {
	b, err := redisbroker.New(ctx, redisbroker.Config{Servers: []redisbroker.Server{{Addresses: []string{s.addr}}}})
	if err != nil {
		return nil, err
	}
	n, err := fanfare.New(fanfare.Config{Broker: b})
	if err != nil {
		_ = b.Close()
		return nil, err
	}
	n.Channel("bench:{id}", fanfare.ChannelOptions{Public: true, History: history})
	return &rig{b, n}, nil
}

func (r *rig) close() {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	_ = r.node.Shutdown(ctx)
	_ = r.broker.Close()
}
