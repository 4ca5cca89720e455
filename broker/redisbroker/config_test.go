package redisbroker_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/broker/redisbroker"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	s, err := redisbroker.ParseURL("redis://app:p%2Fw@one:7000/3?addr=two:7001&master_set=main")
	require.NoError(t, err)
	require.Equal(t, redisbroker.Server{
		Addresses: []string{"one:7000", "two:7001"}, SentinelMaster: "main", Username: "app", Password: "p/w", DB: 3,
	}, s)

	for url, name := range map[string]string{
		"rediss://one":                 "one",
		"rediss://one?addr=two:6379":   "", // each has the name of its address
		"rediss://one?master_set=main": "",
	} {
		s, err := redisbroker.ParseURL(url)
		require.NoError(t, err, url)
		require.Equal(t, name, s.TLS.ServerName, url)
	}
}

func TestParseURL_ErrorsDoNotTellThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"redis://app:secret%zz@host", "redis://app:1/secret@host", "redis://:secret/1@host", "redis://app:secret@host:port",
		"secret", "http://app:secret@host", "unix:///run/secret.sock", "redis://app:secret@host/1/2", "redis://host?db=secret",
	} {
		_, err := redisbroker.ParseURL(url)
		require.ErrorContains(t, err, "redisbroker: ", url)
		require.NotContains(t, err.Error(), "secret", url)
	}
}
