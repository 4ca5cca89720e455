package pattern

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func newSet(t testing.TB, patterns ...string) *Set[string] {
	t.Helper()
	var s Set[string]
	for _, p := range patterns {
		require.NoError(t, s.Add(p, p))
	}
	return &s
}

func TestSet_Lookup(t *testing.T) {
	tests := []struct {
		name     string
		patterns string // separated by blanks
		channel  string
		want     string // "" for no match
		params   string // name=value, separated by blanks
	}{
		{"literal", "news", "news", "news", ""},
		{"literal is whole", "news", "newsroom", "", ""},
		{"literal is case sensitive", "news", "News", "", ""},
		{"literal segments", "a:b:c", "a:b:c", "a:b:c", ""},
		{"too few segments", "a:b:c", "a:b", "", ""},
		{"too many segments", "a:b", "a:b:c", "", ""},
		{"empty channel", "{x} {y...}", "", "", ""},
		{"special characters mean nothing", "$private#x", "$private#x", "$private#x", ""},

		{"wildcard", "room:{id}", "room:42", "room:{id}", "id=42"},
		{"wildcard takes one segment", "room:{id}", "room:42:x", "", ""},
		{"wildcard takes at least one character", "room:{id}", "room:", "", ""},
		{"wildcard needs its segment", "room:{id}", "room", "", ""},
		{"wildcard takes braces and dots", "room:{id}", "room:{id...}", "room:{id}", "id={id...}"},
		{"wildcard in front", "{tenant}:news", "acme:news", "{tenant}:news", "tenant=acme"},
		{"several wildcards", "{a}:x:{b}:{c}", "1:x:2:3", "{a}:x:{b}:{c}", "a=1 b=2 c=3"},
		{"prefix", "#{id}", "#42", "#{id}", "id=42"},
		{"prefix alone", "#{id}", "#", "", ""},
		{"prefix differs", "user-{id}", "usr-42", "", ""},
		{"prefix inside", "a:user-{id}:b", "a:user-1:b", "a:user-{id}:b", "id=1"},
		{"multi-byte", "é{id}:ü", "éñ:ü", "é{id}:ü", "id=ñ"},
		{"keyword as a name", "{type}", "x", "{type}", "type=x"},

		{"rest", "files:{path...}", "files:a", "files:{path...}", "path=a"},
		{"rest takes colons", "files:{path...}", "files:a:b::c:", "files:{path...}", "path=a:b::c:"},
		{"rest takes a colon alone", "files:{path...}", "files::", "files:{path...}", "path=:"},
		{"rest takes at least one character", "files:{path...}", "files:", "", ""},
		{"rest needs its segment", "files:{path...}", "files", "", ""},
		{"rest of everything", "{all...}", "a:b", "{all...}", "all=a:b"},
		{"rest with prefix", "x-{all...}", "x-a:b", "x-{all...}", "all=a:b"},
		{"rest with prefix alone", "x-{all...}", "x-", "", ""},
		{"rest with prefix takes a colon", "x-{all...}", "x-:b", "x-{all...}", "all=:b"},
		{"rest after a wildcard", "{a}:{b...}", "1:2:3", "{a}:{b...}", "a=1 b=2:3"},

		{"empty segment is no wildcard's", "a:{x}:b", "a::b", "", ""},
		{"empty segment is a literal's", "a:{x}:b a::b", "a::b", "a::b", ""},
		{"empty segments around", ":a:", ":a:", ":a:", ""},

		{"literal before prefix", "user-{id} user-1", "user-1", "user-1", ""},
		{"literal before wildcard", "{x} news", "news", "news", ""},
		{"longer prefix first", "u{id} user-{id} us{id}", "user-1", "user-{id}", "id=1"},
		{"shorter prefix if the longer one takes nothing", "user-{id} user{id}", "user-", "user{id}", "id=-"},
		{"prefix before wildcard", "{x} u{x}", "u1", "u{x}", "x=1"},
		{"wildcard before rest", "{x...} {x}", "a", "{x}", "x=a"},
		{"prefix before rest", "{x...} u{x}", "u1", "u{x}", "x=1"},
		{"longer prefix with rest before shorter wildcard", "{x} u{x...}", "u1", "u{x...}", "x=1"},
		{"left decides", "{x}:b a:{y}", "a:b", "a:{y}", "y=b"},
		{"left decides for rest", "{x}:b:c a:{y...}", "a:b:c", "a:{y...}", "y=b:c"},
		{"back from a literal", "a:b:c {x}:b:d", "a:b:d", "{x}:b:d", "x=a"},
		{"back from a prefix", "us{x}:1 u{x}:2", "usa:2", "u{x}:2", "x=sa"},
		{"back from a wildcard to rest", "{x}:y {z...}", "a:b", "{z...}", "z=a:b"},
		{"names belong to the pattern", "{a}:x {b}:y", "1:y", "{b}:y", "b=1"},
		{"path is not a pattern", "a:b:c", "a", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSet(t, strings.Fields(tt.patterns)...)
			v, w, ok := s.Lookup(tt.channel)
			require.Equal(t, tt.want != "", ok)
			require.Equal(t, tt.want, v)
			var params []string
			if ok {
				require.Empty(t, w.Value(tt.channel, "none"))
				for _, name := range w.names {
					params = append(params, name+"="+w.Value(tt.channel, name))
				}
			}
			require.Equal(t, tt.params, strings.Join(params, " "))
		})
	}
}

func TestSet_Add_refusesMalformed(t *testing.T) {
	tests := []struct{ pattern, want string }{
		{"", "empty channel pattern"},
		{"{", "without a closing one"},
		{"a:{id", "without a closing one"},
		{"{a:b}", "without a closing one"},
		{"}", "without an opening one"},
		{"a}:b", "without an opening one"},
		{"a}{b}", "without an opening one"},
		{"{a}}", "text after its wildcard"},
		{"{a}b", "text after its wildcard"},
		{"{a}{b}", "more than one wildcard"},
		{"{a}-{b}", "more than one wildcard"},
		{"{{a}}", "text after its wildcard"},
		{"{{a}", "not a Go identifier"},
		{"{}", "not a Go identifier"},
		{"{...}", "not a Go identifier"},
		{"{1a}", "not a Go identifier"},
		{"{a b}", "not a Go identifier"},
		{"{a....}", "not a Go identifier"},
		{"{a..}", "not a Go identifier"},
		{"{a}:{a}", `wildcard name "a" is used twice`},
		{"{a}:{a...}", `wildcard name "a" is used twice`},
		{"{a...}:b", "{a...} is not at the end"},
		{"{a...}:", "{a...} is not at the end"},
		{"{a...}b", "text after its wildcard"},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			var s Set[int]
			err := s.Add(tt.pattern, 1)
			require.ErrorContains(t, err, tt.want)
			if tt.pattern != "" {
				require.ErrorContains(t, err, fmt.Sprintf("%q", tt.pattern))
			}
		})
	}
}

func TestSet_Add_refusesSameShape(t *testing.T) {
	tests := []struct{ first, second string }{
		{"news", "news"},
		{"room:{id}", "room:{name}"},
		{"#{a}:x", "#{b}:x"},
		{"files:{path...}", "files:{rest...}"},
		{"x-{a...}", "x-{b...}"},
		{":", ":"},
	}
	for _, tt := range tests {
		t.Run(tt.first, func(t *testing.T) {
			s := newSet(t, tt.first)
			err := s.Add(tt.second, "other")
			require.ErrorContains(t, err, fmt.Sprintf("%q", tt.first))
			require.ErrorContains(t, err, fmt.Sprintf("%q", tt.second))
			v, _, ok := s.Lookup(strings.NewReplacer("{id}", "1", "{a}", "1", "{path...}", "1", "{a...}", "1").Replace(tt.first))
			require.True(t, ok)
			require.Equal(t, tt.first, v, "a refused pattern changes nothing")
		})
	}
}

func TestSet_Lookup_empty(t *testing.T) {
	var s Set[int]
	_, _, ok := s.Lookup("news")
	require.False(t, ok)
}

func TestSet_concurrent(t *testing.T) {
	const n = 200
	s := newSet(t, "{x}:first")
	var wg sync.WaitGroup
	for w := range 2 {
		wg.Go(func() {
			for i := range n {
				if err := s.Add(fmt.Sprintf("w%d:%d:{x}", w, i), "added"); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range n {
				if v, _, _ := s.Lookup("a:first"); v != "{x}:first" {
					t.Errorf("got %q", v)
				}
			}
		})
	}
	wg.Wait()
	for w := range 2 {
		for i := range n {
			_, _, ok := s.Lookup(fmt.Sprintf("w%d:%d:1", w, i))
			require.True(t, ok)
		}
	}
}

func TestSet_Lookup_allocatesNothing(t *testing.T) {
	s := newSet(t, "news", "room:{id}:x-{rest...}")
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Lookup("news") }))
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Lookup("nothing:here") }))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if _, w, _ := s.Lookup("room:42:x-y:z"); w.Value("room:42:x-y:z", "rest") != "y:z" {
			panic("not found")
		}
	}))
}

func BenchmarkSet_Lookup(b *testing.B) {
	for _, n := range []int{10, 1000} {
		var s Set[int]
		for i := range n {
			for _, p := range []string{"kind%d:{id}", "user%d-{id}", "a:b%d:{id}", "{x}:end%d"} {
				if i%4 == 0 {
					require.NoError(b, s.Add(fmt.Sprintf(p, i), i))
				}
			}
		}
		last := (n - 1) / 4 * 4
		for name, channel := range map[string]string{
			"literal":  fmt.Sprintf("kind%d:7", last),
			"prefix":   fmt.Sprintf("user%d-7", last),
			"wildcard": fmt.Sprintf("any:end%d", last),
			"none":     "no:such:channel",
		} {
			b.Run(fmt.Sprintf("patterns=%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, _, ok := s.Lookup(channel); ok != (name != "none") {
						b.Fatal(channel)
					}
				}
			})
		}
	}
}
