package redisbroker

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFeed_WhatTravelsTogetherIsBounded(t *testing.T) {
	t.Parallel()
	batches := func(n, channels int) [][]*subscription {
		all := make([][]*subscription, n)
		for i := range all {
			all[i] = make([]*subscription, channels)
		}
		return all
	}
	require.Zero(t, together(nil))
	require.Equal(t, 1, together(batches(1, maxBatch)))
	require.Equal(t, maxCommands, together(batches(3*maxCommands, 1)), "each of a slot of its own")
	require.Equal(t, maxChannels/maxBatch, together(batches(maxCommands, maxBatch)))
}
