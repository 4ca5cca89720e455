package redisbroker_test

import (
	"testing"
	"time"

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

func TestNew_RefusesConfigurations(t *testing.T) {
	t.Parallel()
	at := func(addresses ...string) redisbroker.Server { return redisbroker.Server{Addresses: addresses} }
	other := at("two:1", "one:1")
	other.DB = 1
	for want, c := range map[string]redisbroker.Config{
		"redisbroker: Config.Servers is empty":                              {},
		"redisbroker: Config.Servers[1].Addresses is empty":                 {Servers: []redisbroker.Server{at("one:1"), {}}},
		"redisbroker: Config.Servers[1] is the server of Config.Servers[0]": {Servers: []redisbroker.Server{at("one:1", "two:1"), other}},
		"redisbroker: Config.Prefix \"a{b\" contains a brace":               {Servers: []redisbroker.Server{at("one:1")}, Prefix: "a{b"},
		"redisbroker: Config.StreamTTL 1m0s is less than an hour":           {Servers: []redisbroker.Server{at("one:1")}, StreamTTL: time.Minute},
		"redisbroker: Config.Lease 1ms is less than a second":               {Servers: []redisbroker.Server{at("one:1")}, Lease: time.Millisecond},
		"redisbroker: Config.Timeout -1s is negative":                       {Servers: []redisbroker.Server{at("one:1")}, Timeout: -time.Second},
	} {
		_, err := redisbroker.New(t.Context(), c)
		require.EqualError(t, err, want)
	}
}
