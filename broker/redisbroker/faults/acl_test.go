package faults

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/delivery"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
)

// rules are those of the ACL user in docs/redis.md.
const rules = "on >secret resetkeys ~fanfare:* resetchannels &fanfare:* -@all +@read +@write +@pubsub +@connection +@scripting +info +time"

// TestRedis_User: a user with the rules that the documentation gives may do everything that is needed.
func TestRedis_User(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/redis.md")
	require.NoError(t, err)
	require.Contains(t, string(page), rules)

	s := redistest.Start(t)
	require.Equal(t, "OK", s.CLI(append([]string{"ACL", "SETUSER", "live"}, strings.Fields(rules)...)...))
	require.Equal(t, "OK", s.CLI("ACL", "SETUSER", "default", "off"), "nothing is done as another user")
	redis := at(s.Addr())
	redis.Servers[0].Username, redis.Servers[0].Password = "live", "secret"
	r := delivery.Start(t, delivery.Options{Doors: []string{"http_stream, json", "poll"}}, newNode(t, redis, fanfare.Config{}),
		newNode(t, redis, fanfare.Config{}))
	r.AwaitAccepted(some)
	result := r.Finish()
	require.Empty(t, result.Gaps)
	require.Zero(t, result.Attempts)
}
