package fanfare_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
)

func TestNew_ConfigErrorsNameTheField(t *testing.T) {
	for field, config := range map[string]fanfare.Config{
		"AllowedOrigins":     {AllowedOrigins: []string{"example.com/path"}},
		"Concurrency":        {Concurrency: -1},
		"ConnectTimeout":     {ConnectTimeout: -1},
		"ExpiryGrace":        {ExpiryGrace: -1},
		"HookTimeout":        {HookTimeout: -1},
		"IdempotencyTTL":     {IdempotencyTTL: -1},
		"MaxChannelLength":   {MaxChannelLength: -1},
		"MaxChannels":        {MaxChannels: -1},
		"MaxFrameSize":       {MaxFrameSize: -1},
		"MaxHistoryRead":     {MaxHistoryRead: -1},
		"MaxIdleStreams":     {MaxIdleStreams: -1},
		"MaxPublicationSize": {MaxPublicationSize: -1},
		"MaxQueueSize":       {MaxQueueSize: -1},
		"MaxRecovered":       {MaxRecovered: -1},
		"MaxRunningHooks":    {MaxRunningHooks: -1},
		"MaxUserConnections": {MaxUserConnections: -1},
		"CommandRate":        {CommandRate: fanfare.Rate{Every: time.Second, Burst: -1}},
		"ConnectRate":        {ConnectRate: fanfare.Rate{Burst: 5}},
		"SubscribeRate":      {SubscribeRate: fanfare.Rate{Burst: 5}},
		"UserCommandRate":    {UserCommandRate: fanfare.Rate{Every: 24 * time.Hour, Burst: 366}},
		"PongTimeout":        {PongTimeout: -1},
		"WriteTimeout":       {WriteTimeout: -1},
		"PingInterval":       {PingInterval: 999 * time.Millisecond},
		"ReplaceOldest":      {ReplaceOldest: true},
	} {
		t.Run(field, func(t *testing.T) {
			_, err := fanfare.New(config)
			require.ErrorContains(t, err, field)
			require.ErrorContains(t, err, "fanfare: ")
		})
	}
	t.Run("PongTimeout is less than PingInterval", func(t *testing.T) {
		_, err := fanfare.New(fanfare.Config{PingInterval: 5 * time.Second, PongTimeout: 5 * time.Second})
		require.ErrorContains(t, err, "PongTimeout")
		require.ErrorContains(t, err, "PingInterval")
	})
	t.Run("MaxPublicationSize fits into MaxQueueSize twice", func(t *testing.T) {
		_, err := fanfare.New(fanfare.Config{MaxQueueSize: 2000, MaxPublicationSize: 1001})
		require.ErrorContains(t, err, "MaxPublicationSize of 1001 must not exceed half of MaxQueueSize, 1000")
	})
}

// Numbers that mean "no limit" to somebody would overflow the arithmetic behind them.
func TestNew_NumbersAreBounded(t *testing.T) {
	for field, config := range map[string]fanfare.Config{
		"MaxChannels":   {MaxChannels: math.MaxInt},
		"MaxFrameSize":  {MaxFrameSize: math.MaxInt},
		"MaxQueueSize":  {MaxQueueSize: math.MaxInt},
		"CommandRate":   {CommandRate: fanfare.Rate{Every: math.MaxInt64, Burst: math.MaxInt}},
		"PingInterval":  {PingInterval: math.MaxInt64},
		"HookTimeout":   {HookTimeout: math.MaxInt64},
		"LatencyBudget": {LatencyBudget: math.MaxInt64},
		"WriteTimeout":  {WriteTimeout: math.MaxInt64},
		"Concurrency":   {Concurrency: math.MaxInt},
		"DrainWindow":   {DrainWindow: math.MaxInt64},
		"PositionCheck": {PositionCheck: math.MaxInt64},
	} {
		_, err := fanfare.New(config)
		require.ErrorContains(t, err, field)
	}
	_, err := fanfare.New(fanfare.Config{MaxQueueSize: 1})
	require.ErrorContains(t, err, "MaxQueueSize")
}

func TestNew_ValidConfigs(t *testing.T) {
	for name, config := range map[string]fanfare.Config{
		"zero value":                  {},
		"switched off":                {PingInterval: -1, PositionCheck: -1, SlowHook: -1, DrainWindow: -1},
		"short pings":                 {PingInterval: time.Second},
		"small queue":                 {MaxQueueSize: 1 << 10},
		"pong timeout, without pings": {PingInterval: -1, PongTimeout: time.Hour},
		"origins":                     {AllowedOrigins: []string{"https://example.com", "https://*.example.com", "http://localhost:8080"}},
		"all origins":                 {AllowedOrigins: []string{"*"}},
	} {
		t.Run(name, func(t *testing.T) {
			node, err := fanfare.New(config)
			require.NoError(t, err)
			require.NoError(t, node.Shutdown(t.Context()))
		})
	}
}

// unattachable is a broker that is not there.
type unattachable struct{ *fanfare.MemoryBroker }

func (unattachable) Attach(string, fanfare.Sink) (fanfare.Link, error) {
	return nil, errors.New("no broker here")
}

func TestNew_BrokerNotReached(t *testing.T) {
	b := fanfare.NewMemoryBroker(fanfare.MemoryBrokerConfig{})
	defer b.Close()
	_, err := fanfare.New(fanfare.Config{Broker: unattachable{b}})
	require.ErrorContains(t, err, "no broker here")
	_, err = b.Publish(context.Background(), "x", &fanfare.Publication{}, fanfare.StoreOptions{})
	require.NoError(t, err, "it is not closed: it is not the node's")
}
