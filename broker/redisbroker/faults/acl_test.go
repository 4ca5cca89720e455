package faults

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/broker/internal/delivery"
	"github.com/fanfare-go/fanfare/broker/internal/redistest"
	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

// rules are those of the ACL user in docs/redis.md.
const rules = "on >secret resetkeys ~fanfare:* resetchannels &fanfare:* -@all +@read +@write +@pubsub +@connection +@scripting +info +time " +
	"+cluster|slots +cluster|shards"

func TestUser_RulesAreThoseOfTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../../docs/redis.md")
	require.NoError(t, err)
	require.Contains(t, string(page), "ACL SETUSER live "+rules+"\n")
}

// TestUser: a user with the rules that the documentation gives may do everything that is needed, and there is no other.
func TestUser(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) []*redistest.Server{
		"server":  func(t *testing.T) []*redistest.Server { return []*redistest.Server{redistest.Start(t)} },
		"Cluster": func(t *testing.T) []*redistest.Server { return redistest.StartCluster(t).Masters },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			servers := start(t)
			redis := redisbroker.Config{Servers: []redisbroker.Server{{Username: "live", Password: "secret"}}}
			for _, s := range servers {
				require.Equal(t, "OK", s.CLI(append([]string{"ACL", "SETUSER", "live"}, strings.Fields(rules)...)...))
				require.Equal(t, "OK", s.CLI("ACL", "SETUSER", "operator", "on", ">secret", "+@all"))
				require.Equal(t, "OK", s.CLI("ACL", "SETUSER", "default", "off"))
				redis.Servers[0].Addresses = append(redis.Servers[0].Addresses, s.Addr())
			}
			r := delivery.Start(t, delivery.Options{Doors: []string{"http_stream, json", "poll"}}, newNode(t, redis, fanfare.Config{}),
				newNode(t, redis, fanfare.Config{}))
			r.AwaitAccepted(some)
			result := r.Finish()
			require.Empty(t, result.Gaps)
			require.Zero(t, result.Attempts)
			for _, s := range servers {
				denied := s.CLI("--user", "operator", "--pass", "secret", "--no-auth-warning", "ACL", "LOG")
				require.Empty(t, denied, "what the user was not allowed to do")
			}
		})
	}
}
