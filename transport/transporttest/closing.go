package transporttest

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// closeWith closes a new connection and returns how the peer saw it end.
func closeWith(t *testing.T, f *fixture, code uint32, reason string) error {
	t.Helper()
	client, s := f.open(t)
	s.Send(t, message(1, 10))
	closed := make(chan error, 1)
	go func() { closed <- s.Conn.Close(code, reason) }() // ends with the closing handshake
	messages, err := readAll(client)
	require.Equal(t, [][]byte{message(1, 10)}, messages, "what was written before arrives before")
	require.NoError(t, <-closed)
	require.NoError(t, s.Ended(t))
	return err
}

func testCodes(t *testing.T, f *fixture) {
	for _, code := range []uint32{3000, 3001, 3500, 3999, 4000, 4500, 4999} {
		require.Equal(t, &Closed{code, "some reason"}, closeWith(t, f, code, "some reason"))
	}
	// Codes that the transport cannot carry must still say "come back".
	var c *Closed
	require.ErrorAs(t, closeWith(t, f, 5001, "too high"), &c)
	require.True(t, c.Code < 3500 || c.Code >= 4000 && c.Code < 4500 || c.Code >= 5000, "code %d", c.Code)
}

func testReasons(t *testing.T, f *fixture) {
	for name, reason := range map[string]string{
		"empty":                   "",
		"object":                  `{"reason":"x","reconnect":true}`,
		"number":                  "123",
		"string with space":       ` "x" `,
		"200 bytes":               strings.Repeat("x", 200),
		"number after the cut":    strings.Repeat("1", 123) + " times",
		"long object":             `"` + strings.Repeat("x", 119) + `"`,
		"character over the edge": strings.Repeat("x", 122) + "é and more",
		"long characters":         strings.Repeat("語", 60),
		"not UTF-8":               "bad \xff\xfe bytes",
	} {
		var c *Closed
		require.ErrorAs(t, closeWith(t, f, 3500, reason), &c, name)
		require.EqualValues(t, 3500, c.Code, name)
		require.NotEmpty(t, c.Reason, name)
		require.LessOrEqual(t, len(c.Reason), 123, name)
		require.True(t, utf8.ValidString(c.Reason), name)
		require.False(t, json.Valid([]byte(c.Reason)), name)
	}
}

func testDropByCode(t *testing.T, f *fixture) {
	client, s := f.open(t)
	within(t, "Close", patience, func() { _ = s.Conn.Close(0, "ignored") })
	_, err := readAll(client)
	require.Error(t, err)
	var c *Closed
	require.NotErrorAs(t, err, &c, "nothing is said")
	require.NoError(t, s.Ended(t))
}

func testWriteAfterClose(t *testing.T, f *fixture) {
	client, s := f.open(t)
	go func() { _ = s.Conn.Close(3001, "shutdown") }() // ends with the closing handshake
	_, err := readAll(client)
	require.Error(t, err)
	require.NoError(t, s.Ended(t))
	require.Error(t, s.Conn.Write(s.Conn.Info().Framing.AppendFrame(nil, message(1, 10))))
}

func testCloseTwice(t *testing.T, f *fixture) {
	client, s := f.open(t)
	go func() { _, _ = readAll(client) }() // ends with the connection
	done := make(chan struct{}, 3)
	for _, code := range []uint32{3001, 3500, 3001} {
		go func() { // ends with the closing handshake
			_ = s.Conn.Close(code, "twice")
			done <- struct{}{}
		}()
	}
	within(t, "Close", patience, func() {
		for range cap(done) {
			<-done
		}
	})
	require.NoError(t, s.Ended(t))
	within(t, "Close", patience, func() { _ = s.Conn.Close(0, ""); _ = s.Conn.Close(3001, "again") })
}

func testLeave(t *testing.T, f *fixture) {
	client, s := f.open(t)
	require.NoError(t, client.Leave())
	go func() { _, _ = readAll(client) }() // ends with the connection
	require.NoError(t, s.Ended(t))
	within(t, "Close", patience, func() { _ = s.Conn.Close(3000, "connection closed") })
}

func testVanish(t *testing.T, f *fixture) {
	client, s := f.open(t)
	require.NoError(t, client.Drop())
	// How it ended may look ordinary or not, but it must end.
	_ = s.Ended(t)
	within(t, "Close", patience, func() { _ = s.Conn.Close(3000, "connection closed") })
}
