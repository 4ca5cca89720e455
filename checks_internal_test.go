package fanfare

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChecks_WhoHasLeftDoesNotWait(t *testing.T) {
	hanging := checks{max: 1, start: func(func()) bool { return true }}
	stays := &Client{}
	hanging.add(stays, func(*place) {})
	for range 100 * fewChecks {
		c := &Client{}
		hanging.add(c, func(*place) {})
		c.ctx.end()
	}
	require.LessOrEqual(t, len(hanging.waiting), 2*fewChecks)
	require.Same(t, stays, hanging.waiting[0].client)
}
