package delta_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	fdelta "github.com/shadowspore/fossil-delta"
	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/delta"
)

// requireApplies fails the test unless a delta, if there is one, makes the target: by the reader below, which is written after
// the specification, and by a published library. It reports whether there is one.
func requireApplies(t testing.TB, base, target []byte) bool {
	t.Helper()
	d := delta.Create(base, target)
	if d == nil {
		return false
	}
	require.Less(t, len(d), len(target), "a delta that is not shorter")
	got, err := apply(base, d)
	require.NoError(t, err)
	require.True(t, bytes.Equal(target, got), "%q makes %q of %q", d, got, base)
	got, err = fdelta.Apply(base, d)
	require.NoError(t, err, "%q", d)
	require.True(t, bytes.Equal(target, got), "the library reads %q otherwise", d)
	if utf8.Valid(base) && utf8.Valid(target) {
		require.True(t, utf8.Valid(d), "%q cuts a character", d)
	}
	return true
}

// apply reads a delta strictly by spec 11.3.
func apply(base, d []byte) ([]byte, error) {
	number := func() (n int, end byte, err error) {
		for i := 0; len(d) > 0; i++ {
			digit := strings.IndexByte("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~", d[0])
			if digit < 0 {
				if end, d = d[0], d[1:]; i == 0 {
					return 0, end, errors.New("no number")
				}
				return n, end, nil
			}
			n, d = n<<6|digit, d[1:]
		}
		return 0, 0, errors.New("cut off")
	}
	size, end, err := number()
	if err != nil || end != '\n' {
		return nil, errors.New("no size")
	}
	var out []byte
	for {
		n, operation, err := number()
		if err != nil {
			return nil, err
		}
		switch operation {
		case '@':
			from, comma, err := number()
			if err != nil || comma != ',' || from+n > len(base) {
				return nil, errors.New("bad copy")
			}
			out = append(out, base[from:from+n]...)
		case ':':
			if n > len(d) {
				return nil, errors.New("bad insert")
			}
			out, d = append(out, d[:n]...), d[n:]
		case ';':
			var sum uint32
			for i := 0; i < len(out); i++ {
				sum += uint32(out[i]) << (24 - 8*(i%4))
			}
			if len(d) > 0 || len(out) != size || uint32(n) != sum {
				return nil, fmt.Errorf("bad end: %d bytes of %d, %d bytes left", len(out), size, len(d))
			}
			return out, nil
		default:
			return nil, fmt.Errorf("unknown operation %q", operation)
		}
	}
}

// The example of spec 11.3, and that of 19.10.
func TestCreate_Spec11_3_Examples(t *testing.T) {
	title := `{"title":"a rather long document title","rev":`
	require.Equal(t, "l\nj@0,2:2}KJYlR;", string(delta.Create([]byte(title+"1}"), []byte(title+"2}"))))

	d := delta.Create([]byte(strings.Repeat("x", 81)+"1}"), []byte(strings.Repeat("x", 81)+"2}"))
	require.True(t, bytes.HasPrefix(d, []byte("1J\n1H@0,2:2}")), "%q", d)
}

func TestCreate_FullWhereThatIsShorter(t *testing.T) {
	long := []byte(strings.Repeat("a document ", 20))
	for name, pair := range map[string][2][]byte{
		"nothing to copy from": {nil, long},
		"nothing in common":    {bytes.Repeat([]byte("0123456789"), 20), long},
		"tiny":                 {[]byte(`{"a":"aaaaaaaaaaaa"}`), []byte(`{"a":"aaaaaaaaaaab"}`)},
		"empty":                {long, nil},
	} {
		require.Nil(t, delta.Create(pair[0], pair[1]), name)
	}
}

func TestCreate_Edits(t *testing.T) {
	list := func(from, to int) string {
		var b strings.Builder
		for i := from; i < to; i++ {
			fmt.Fprintf(&b, `{"id":%d,"name":"Grüße an Nummer %d","price":%d.25},`, i, i, i*i%97)
		}
		return b.String()
	}
	for name, row := range map[string]struct {
		base, target string
		at           int // most bytes of the delta
	}{
		"the same":               {list(0, 20), list(0, 20), 20},
		"appended":               {list(0, 20), list(0, 20) + `{"id":20}`, 40},
		"put before":             {list(1, 20), list(0, 20), 80},
		"cut out":                {list(0, 20), list(0, 7) + list(9, 20), 30},
		"moved on by one":        {list(0, 20), list(1, 21), 100},
		"two places":             {list(0, 20), strings.NewReplacer("Nummer 3", "Nummer drei", "Nummer 17", "Nummer 71").Replace(list(0, 20)), 60},
		"all prices":             {list(0, 20), strings.ReplaceAll(list(0, 20), ".25", ".75"), 320},
		"one letter's last byte": {strings.Repeat("é", 50), strings.Repeat("é", 25) + "è" + strings.Repeat("é", 24), 30},
		"letters of four bytes":  {strings.Repeat("🎈", 50), strings.Repeat("🎈", 25) + "🎉" + strings.Repeat("🎈", 24), 30},
		"repeats itself":         {list(0, 5), list(0, 5) + list(0, 5), 40},
	} {
		require.True(t, requireApplies(t, []byte(row.base), []byte(row.target)), name)
		d := delta.Create([]byte(row.base), []byte(row.target))
		require.LessOrEqual(t, len(d), row.at, "%s: %q", name, d)
	}
}

// Random documents with random changes, of text with characters of every length, and of bytes.
func TestCreate_RandomEdits(t *testing.T) {
	alphabets := []string{"ab", `{"key":0123456789,}`, "aéǖ漢字🎈🎉\u2028", "\x80\xbf\xc3\xff\x00\n"}
	short := 0
	for seed := range uint64(4000) {
		rng := rand.New(rand.NewPCG(seed, 7))
		alphabet := alphabets[rng.IntN(len(alphabets))]
		letters := []string{}
		if utf8.ValidString(alphabet) {
			for _, r := range alphabet {
				letters = append(letters, string(r))
			}
		} else {
			for i := range alphabet {
				letters = append(letters, alphabet[i:i+1])
			}
		}
		word := func(n int) (w []string) {
			for range rng.IntN(n + 1) {
				w = append(w, letters[rng.IntN(len(letters))])
			}
			return w
		}
		base := word(1 << rng.IntN(12))
		target := append([]string{}, base...)
		for range rng.IntN(6) {
			i := rng.IntN(len(target) + 1)
			j := min(len(target), i+rng.IntN(20))
			target = append(append(append([]string{}, target[:i]...), word(30)...), target[j:]...)
		}
		if requireApplies(t, []byte(strings.Join(base, "")), []byte(strings.Join(target, ""))) {
			short++
		}
	}
	require.Greater(t, short, 1000, "hardly any delta was tested")
}

func FuzzCreate(f *testing.F) {
	f.Add([]byte(`{"a rather long document":"with é","n":1}`), []byte(`{"a rather long document":"with è","n":2}`))
	f.Add(bytes.Repeat([]byte{0x80}, 100), bytes.Repeat([]byte{0x80}, 90))
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), []byte("abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz"))
	f.Fuzz(func(t *testing.T, base, target []byte) {
		requireApplies(t, base, target)
		// As they are, inputs have little in common.
		requireApplies(t, base, append(append(bytes.Clone(base), target...), base...))
		requireApplies(t, append(bytes.Clone(base), target...), append(bytes.Clone(target), base...))
	})
}

// What is meant to make it slow must not: a publisher chooses the payloads, and a worker computes.
func hostile(size int) map[string][2][]byte {
	a, b := bytes.Repeat([]byte("a"), size), bytes.Repeat([]byte("a"), size)
	for i := 0; i < size; i += 15 {
		b[i] = 'b'
	}
	noise, other := make([]byte, size), make([]byte, size)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i], other[i] = byte(rng.IntN(256)), byte(rng.IntN(256))
	}
	blocks := make([]byte, 0, size)
	for len(blocks)+16 <= size {
		blocks = append(append(blocks, "aaaaaaaa"...), byte(rng.IntN(256)), byte(rng.IntN(256)), byte(rng.IntN(256)), 'x', 'y', 'z', '1', '2')
	}
	return map[string][2][]byte{"one letter, then cut": {a, b}, "the reverse": {b, a}, "noise": {noise, other}, "same words": {blocks, b}}
}

func TestCreate_HostileInputs(t *testing.T) {
	for name, pair := range hostile(256 << 10) {
		t.Run(name, func(t *testing.T) {
			requireApplies(t, pair[0], pair[1])
			allocs := testing.AllocsPerRun(3, func() { delta.Create(pair[0], pair[1]) })
			require.LessOrEqual(t, allocs, 16.0) // of a buffer that grows
		})
	}
}

func BenchmarkCreate(b *testing.B) {
	makers := map[string]func(base, target []byte) []byte{"own": delta.Create, "library": fdelta.Create}
	run := func(b *testing.B, base, target []byte) {
		for maker, create := range makers {
			b.Run(maker, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(target)))
				var d []byte
				for b.Loop() {
					d = create(base, target)
				}
				b.ReportMetric(float64(len(d)), "B/delta")
			})
		}
	}
	for _, size := range []int{200, 2000, 64_000} {
		var doc strings.Builder
		doc.WriteString(`{"rev":1,"rows":[`)
		for i := 0; doc.Len() < size-60; i++ {
			fmt.Fprintf(&doc, `{"id":%d,"name":"Grüße %d","price":%d.25},`, i, i*7919%1000, i*i%97)
		}
		doc.WriteString(`{"last":0}]}`)
		base := []byte(doc.String())
		for name, edit := range map[string]*strings.Replacer{
			"one edit":    strings.NewReplacer(`"last":0`, `"last":17`),
			"three edits": strings.NewReplacer(`"rev":1`, `"rev":2`, `"id":1,`, `"id":100,`, `"last":0`, `"last":17`),
		} {
			b.Run(fmt.Sprintf("%d bytes/%s", size, name), func(b *testing.B) { run(b, base, []byte(edit.Replace(string(base)))) })
		}
	}
	for name, pair := range hostile(256 << 10) {
		b.Run("hostile/"+name, func(b *testing.B) { run(b, pair[0], pair[1]) })
	}
}
