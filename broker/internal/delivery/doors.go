package delivery

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"testing"
)

// doors are the ways in: each makes the visits of a new client.
var doors = map[string]func() func(context.Context, *client) error{
	"websocket, json":       sessions(overSocket(jsonCodec{})),
	"websocket, protobuf":   sessions(overSocket(protobufCodec{})),
	"http_stream, json":     sessions(overStream("http_stream", jsonCodec{})),
	"http_stream, protobuf": sessions(overStream("http_stream", protobufCodec{})),
	"sse":                   sessions(overStream("sse", jsonCodec{})),
	"events":                visitEvents,
	"poll":                  visitPoll,
}

// Doors are the names of all doors that clients have.
func Doors() []string { return slices.Sorted(maps.Keys(doors)) }

type dialer func(ctx context.Context, address string) (link, error)

func sessions(dial dialer) func() func(context.Context, *client) error {
	return func() func(context.Context, *client) error { return visitSession(dial) }
}

func overSocket(c codec) dialer {
	return func(ctx context.Context, address string) (link, error) { return dialSocket(ctx, address, c) }
}

func overStream(door string, c codec) dialer {
	return func(_ context.Context, address string) (link, error) { return newStream(address, door, c), nil }
}

// Logger writes warnings into the test's log.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}
