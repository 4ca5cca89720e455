package transport_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/transport"
)

func TestCloseReason(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]string{
		"plain":                    "plain",
		"":                         "disconnect",
		"123":                      "reason: 123",
		`{"reconnect":true}`:       `reason: {"reconnect":true}`,
		"\xff":                     "\uFFFD",
		strings.Repeat("é", 62):    strings.Repeat("é", 61),
		strings.Repeat("1", 1000):  "reason: " + strings.Repeat("1", 115),
		strings.Repeat("x", 1000):  strings.Repeat("x", 123),
		strings.Repeat("\xff", 99): "\uFFFD", // a run of bad bytes is one mark
	} {
		got := transport.CloseReason(reason)
		require.Equal(t, want, got, "%q", reason)
		require.Equal(t, got, transport.CloseReason(got), "fit already")
	}
}
