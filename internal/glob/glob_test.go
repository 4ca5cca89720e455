package glob_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fanfare-go/fanfare/internal/glob"
)

func TestGlob(t *testing.T) {
	for _, test := range []struct {
		pattern  string
		yes, not []string
	}{
		{"", []string{"", "a", "a:b\n"}, nil},
		{"*", []string{"", "a:b", "\xff"}, nil},
		{"room:*", []string{"room:", "room:1", "room:a:b", "room:\n"}, []string{"room", "xroom:1", ""}},
		{"*:1", []string{":1", "a:b:1"}, []string{"a:11"}},
		{"a*b*c", []string{"abc", "aXbYc", "abcbc"}, []string{"acb", "ab"}},
		{"?", []string{"a", "é", "\xff"}, []string{"", "ab"}},
		{"[a-c]x", []string{"ax", "cx"}, []string{"dx", "x", "-x"}},
		{"[!a-c]", []string{"d", "-"}, []string{"a", ""}},
		{"[]a]", []string{"]", "a"}, []string{"b"}},
		{"[a-]", []string{"a", "-"}, []string{"b"}},
		{"[-a]", []string{"a", "-"}, []string{"b"}},
		{`[\]\-^&.]`, []string{"]", "-", "^", "&", "."}, []string{`\`, "a"}},
		{"{news,room:*}!", []string{"news!", "room:1!"}, []string{"news", "newsroom:1!", "{news}!"}},
		{"a,b}", []string{"a,b}"}, []string{"a"}},
		{`a\*\?`, []string{"a*?"}, []string{"abc", `a\*\?`}},
		{"a.b+c$(d)|^", []string{"a.b+c$(d)|^"}, []string{"aXb+c$(d)|^"}},
		{"#ü", []string{"#ü"}, []string{"#u"}},
	} {
		g, err := glob.Compile(test.pattern)
		require.NoError(t, err, test.pattern)
		for _, name := range test.yes {
			require.True(t, g.Match(name), "%q matches %q", test.pattern, name)
		}
		for _, name := range test.not {
			require.False(t, g.Match(name), "%q does not match %q", test.pattern, name)
		}
	}
	for _, pattern := range []string{"[", "[a", "[]", "[!", "{a", `a\`, "[z-a]", strings.Repeat("x", 1025)} {
		_, err := glob.Compile(pattern)
		require.Error(t, err, "%q", pattern)
	}
}

func FuzzCompile(f *testing.F) {
	for _, p := range []string{"", "*", "a[b-d]*", "{a,b}?", `\[`, "[]-a]", "[\\d]", "[[:alpha:]]", "{{a,b},{c}}", "(?i)a"} {
		f.Add(p, "abc")
	}
	f.Fuzz(func(t *testing.T, pattern, name string) {
		g, err := glob.Compile(pattern)
		if err != nil {
			return
		}
		g.Match(name)
		if utf8.ValidString(pattern) && !strings.ContainsAny(pattern, `*?[]{}\`) && pattern != "" && g.Match(name) != (name == pattern) {
			t.Fatalf("literal %q and %q", pattern, name)
		}
	})
}
