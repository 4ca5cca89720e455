package serverapi_test

import (
	"context"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/fanfaretest"
	"github.com/fanfare-go/fanfare/serverapi"
)

var (
	docCall = regexp.MustCompile(`^api (\w+) '(.*)'$`)
	docVary = regexp.MustCompile(`"epoch":"\w+"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
)

// TestDocs makes the calls of docs/server-api.md in their order, and compares the answers.
func TestDocs(t *testing.T) {
	doc, err := os.ReadFile("../docs/server-api.md")
	require.NoError(t, err)
	k := newKit(t, func(c *serverapi.Config) {
		c.RPC = map[string]serverapi.RPCFunc{"stats": func(_ context.Context, params json.RawMessage) (json.RawMessage, error) { return params, nil }}
	})
	kept := fanfare.History{Size: 10, TTL: time.Hour}
	k.node.Channel("news", fanfare.ChannelOptions{History: kept})
	k.node.Channel("stock", fanfare.ChannelOptions{History: kept})
	k.node.Channel("chat:{id}", fanfare.ChannelOptions{Public: true, Presence: true})
	c := fanfaretest.Connect(t, k.node, "42")
	_, err = c.Subscribe("chat:1")
	require.NoError(t, err)

	lines, calls := strings.Split(string(doc), "\n"), 0
	for i, line := range lines {
		call := docCall.FindStringSubmatch(line)
		if call == nil {
			continue
		}
		calls++
		got := docVary.ReplaceAllString(k.ask("/api/"+call[1], call[2]), "…")
		require.Equal(t, docVary.ReplaceAllString(lines[i+1], "…"), got, line)
	}
	require.Greater(t, calls, 15)
	require.Equal(t, &fanfare.Disconnect{Code: 4501, Reason: "banned"}, closed(t, c))
}
