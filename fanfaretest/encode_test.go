package fanfaretest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestObject_KeysAreJSON: names of channels become keys, and Go's escapes are not all JSON's.
func TestObject_KeysAreJSON(t *testing.T) {
	for _, name := range []string{"", "room:1", `a"b\c`, "a\x7fb", "\x00\a\v", "\u2028", "\U000e0001", "林"} {
		var o object
		o.text(name, "x")
		var got map[string]string
		require.NoError(t, json.Unmarshal(o.bytes(), &got), "%q gives %s", name, o.bytes())
		require.Equal(t, map[string]string{name: "x"}, got)
	}
}
