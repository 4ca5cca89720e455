package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSession_IsWhatWasSigned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	s, err := openSessions(path)
	require.NoError(t, err)
	w := httptest.NewRecorder()
	s.start(w, httptest.NewRequest("POST", "/login", nil), "Zoë. 林")
	value := w.Result().Cookies()[0].Value

	user := func(s *sessions, value string) string {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: sessionCookie, Value: value})
		name, _, ok := s.user(r)
		require.Equal(t, name != "", ok)
		return name
	}
	require.Equal(t, "Zoë. 林", user(s, value))

	again, err := openSessions(path)
	require.NoError(t, err)
	require.Equal(t, "Zoë. 林", user(again, value), "after a restart")

	parts := strings.Split(value, ".")
	for _, forged := range []string{
		"", ".", "..", "nonsense", parts[0], parts[0] + "." + parts[1] + ".",
		"QWRh." + parts[1] + "." + parts[2], parts[0] + ".99999999999." + parts[2],
	} {
		require.Empty(t, user(s, forged), forged)
	}
	other, err := openSessions(filepath.Join(t.TempDir(), "key"))
	require.NoError(t, err)
	require.Empty(t, user(other, value), "another key")

	s.now = func() time.Time { return time.Now().Add(sessionTTL + time.Second) }
	require.Empty(t, user(s, value), "expired")
}

func TestCleanName(t *testing.T) {
	for in, want := range map[string]string{
		"Ada": "Ada", "  Ada \t Lovelace ": "Ada Lovelace", "林小雨": "林小雨", "a\xffb": "ab",
		"": "", " \n": "", strings.Repeat("x", maxNameLength+1): "", "a\u202eb": "", "a\x00b": "",
	} {
		name, problem := cleanName(in)
		require.Equal(t, want, name, "%q", in)
		require.Equal(t, want == "", problem != "", "%q", in)
	}
}

func TestLocalPath(t *testing.T) {
	for in, want := range map[string]string{
		"/rooms/lobby": "/rooms/lobby", "": "/", "rooms": "/", "//evil.example": "/", `/\evil.example`: "/",
		"https://evil.example/": "/", "/\t/evil.example": "/", "javascript:alert(1)": "/", "%zz": "/",
	} {
		require.Equal(t, want, localPath(in), in)
	}
}

func TestRoomID(t *testing.T) {
	for in, want := range map[string]string{
		"Book club": "book-club", "a:b/c": "a-b-c", "林": "room", "!?": "room", "--x  y": "x-y",
	} {
		require.Equal(t, want, roomID(in), in)
	}
}
