//go:build unix

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/delta"
)

// deltaCase is a delta for the script to apply. Text says how it travels to a JSON client: as the characters of a string.
type deltaCase struct {
	Base   []byte  `json:"base"`
	Target []byte  `json:"target"`
	Delta  []byte  `json:"delta"`
	Text   *string `json:"text,omitempty"`
}

// TestDelta_AppliedByThePublishedReader lets the package of the format's author for JavaScript apply deltas that are made here:
// of documents with characters of every length that share bytes, and of random bytes.
func TestDelta_AppliedByThePublishedReader(t *testing.T) {
	node := lookNode(t)
	if _, err := os.Stat(filepath.FromSlash("node_modules/fossil-delta/package.json")); err != nil {
		unavailable(t, "the npm package fossil-delta")
	}
	path := filepath.Join(t.TempDir(), "deltas")
	written := writeDeltas(t, path)
	require.Greater(t, written, 1500)

	applied := 0
	err := runScript(t, func(line *scriptLine) {
		require.True(t, line.OK, "%s: %s", line.Name, line.Error)
		applied++
	}, node, filepath.FromSlash("js/deltas.mjs"), path)
	require.NoError(t, err)
	require.Equal(t, 1, applied)
}

func writeDeltas(t *testing.T, path string) (written int) {
	t.Helper()
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	out := bufio.NewWriter(file)
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 11))
		base := randomDocument(rng, seed%3 == 0)
		target := edited(rng, base)
		c := deltaCase{Base: []byte(strings.Join(base, "")), Target: []byte(strings.Join(target, ""))}
		if c.Delta = delta.Create(c.Base, c.Target); c.Delta == nil {
			continue
		}
		if utf8.Valid(c.Base) && utf8.Valid(c.Target) {
			text := string(c.Delta)
			require.True(t, utf8.ValidString(text), "seed %d", seed)
			c.Text = &text
		}
		line, err := json.Marshal(c)
		require.NoError(t, err)
		fmt.Fprintf(out, "%s\n", line)
		written++
	}
	require.NoError(t, out.Flush())
	return written
}

// randomDocument returns pieces: characters, some of which differ in their last byte alone, or bytes.
func randomDocument(rng *rand.Rand, bytes bool) []string {
	letters := strings.Split(`{"a":1,éèêëāăą漢漣漤🎈🎉🎊`, "")
	if bytes {
		letters = nil
		for i := range 256 {
			letters = append(letters, string([]byte{byte(i)}))
		}
	}
	doc := make([]string, 20+rng.IntN(3000))
	for i := range doc {
		doc[i] = letters[rng.IntN(len(letters))]
	}
	return doc
}

func edited(rng *rand.Rand, base []string) []string {
	target := append([]string(nil), base...)
	for range 1 + rng.IntN(5) {
		i := rng.IntN(len(target))
		j := min(len(target), i+rng.IntN(10))
		insert := randomDocument(rng, false)[:rng.IntN(20)]
		target = append(append(append([]string(nil), target[:i]...), insert...), target[j:]...)
		if len(target) == 0 {
			return base
		}
	}
	return target
}
