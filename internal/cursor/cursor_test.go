package cursor_test

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/cursor"
)

func encode(entries ...cursor.Entry) string {
	var e cursor.Encoder
	return string(e.Append(nil, entries))
}

// sealed puts the checksum in front, which no fuzzer finds.
func sealed(content []byte) string {
	raw := binary.BigEndian.AppendUint32(nil, crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)))
	return base64.RawURLEncoding.EncodeToString(append(raw, content...))
}

func TestCursor_ReturnsWhatWentIn(t *testing.T) {
	t.Parallel()
	token := encode(
		cursor.Entry{Channel: "room:1", Offset: 42, Epoch: "kTzQwErB"},
		cursor.Entry{Channel: "#ann", Named: true, Offset: 1<<53 - 1, Epoch: "x"},
		cursor.Entry{Channel: "", Epoch: ""},
	)
	c, err := cursor.Parse(token)
	require.NoError(t, err)
	e, ok := c.Lookup("room:1")
	require.True(t, ok)
	require.Equal(t, []any{"room:1", false, uint64(42), "kTzQwErB"}, []any{e.Channel, e.Named, e.Offset, e.Epoch})
	e, ok = c.Lookup("#ann")
	require.True(t, ok)
	require.Equal(t, []any{"#ann", true, uint64(1<<53 - 1), "x"}, []any{e.Channel, e.Named, e.Offset, e.Epoch})
	require.Contains(t, c.Named(), "#ann")
	require.Len(t, c.Named(), 1)
	_, ok = c.Lookup("")
	require.True(t, ok)
	_, ok = c.Lookup("room:2")
	require.False(t, ok)
}

func TestCursor_IsShortAndNeedsNoEscaping(t *testing.T) {
	t.Parallel()
	entries := make([]cursor.Entry, 128)
	for i := range entries {
		entries[i] = cursor.Entry{Channel: fmt.Sprintf("%s:%d", strings.Repeat("long", 50), i), Offset: 1 << 40, Epoch: "kTzQwErB"}
	}
	token := encode(entries...)
	require.Less(t, len(token), 8<<10, "proxies refuse longer headers")
	require.Regexp(t, `^[A-Za-z0-9_-]+$`, token)
}

// What is written can be read, whatever it is.
func TestCursor_SaysWhatDidNotFit(t *testing.T) {
	t.Parallel()
	entries := make([]cursor.Entry, 200)
	for i := range entries {
		entries[i] = cursor.Entry{Channel: fmt.Sprintf("%s:%d", strings.Repeat("long", 60), i), Named: true, Offset: 7, Epoch: "e"}
	}
	token := encode(entries...)
	require.LessOrEqual(t, len(token), cursor.MaxLength)
	c, err := cursor.Parse(token)
	require.NoError(t, err)
	require.True(t, c.Partial())
	require.Greater(t, len(c.Named()), 50)
	_, ok := c.Lookup(entries[199].Channel)
	require.False(t, ok)

	c, err = cursor.Parse(encode(cursor.Entry{Channel: "x", Epoch: strings.Repeat("e", 65)}, cursor.Entry{Channel: "y", Epoch: strings.Repeat("e", 64)}))
	require.NoError(t, err)
	require.True(t, c.Partial())
	_, ok = c.Lookup("y")
	require.True(t, ok)
}

func TestCursor_WithoutPositionsIsACursor(t *testing.T) {
	t.Parallel()
	c, err := cursor.Parse(encode())
	require.NoError(t, err)
	_, ok := c.Lookup("x")
	require.False(t, ok)
}

func TestCursor_RefusesWhatIsNone(t *testing.T) {
	t.Parallel()
	token := encode(cursor.Entry{Channel: "room:1", Offset: 42, Epoch: "kTzQwErB"})
	for name, bad := range map[string]string{
		"empty": "", "no base64": "%%%", "cut off": token[:len(token)-4], "too long": strings.Repeat("A", cursor.MaxLength+1),
		"one changed":        strings.Replace(token, token[10:11], map[bool]string{true: "B", false: "A"}[token[10] == 'A'], 1),
		"the beginning only": token[:6],
	} {
		_, err := cursor.Parse(bad)
		require.ErrorIs(t, err, cursor.ErrMalformed, name)
	}
	_, err := cursor.Parse(sealed([]byte{2, 'x'}))
	require.ErrorIs(t, err, cursor.ErrVersion)
}

func TestEncoder_DoesNotAllocate(t *testing.T) {
	var e cursor.Encoder
	entries := []cursor.Entry{{Channel: "room:1", Offset: 42, Epoch: "kTzQwErB"}, {Channel: "room:2", Offset: 43, Epoch: "kTzQwErB"}}
	dst := e.Append(nil, entries)
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = e.Append(dst[:0], entries) }))
}

func FuzzParse(f *testing.F) {
	for _, token := range []string{
		encode(),
		encode(cursor.Entry{Channel: "room:1", Offset: 42, Epoch: "kTzQwErB"}, cursor.Entry{Channel: "#ann", Named: true, Epoch: "e"}),
	} {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		require.NoError(f, err)
		f.Add(raw[5:])
	}
	f.Fuzz(func(t *testing.T, entries []byte) {
		c, err := cursor.Parse(sealed(append([]byte{1}, entries...)))
		if err != nil {
			require.ErrorIs(t, err, cursor.ErrMalformed)
			return
		}
		for name, entry := range c.Named() {
			again, err := cursor.Parse(encode(entry))
			require.NoError(t, err)
			require.Equal(t, entry, again.Named()[name])
		}
	})
}
