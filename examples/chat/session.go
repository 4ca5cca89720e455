package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	sessionCookie = "chat_session"
	sessionTTL    = 30 * 24 * time.Hour
	maxNameLength = 24 // runes
)

// sessions are signed cookies: the name and an expiry, and a MAC over both. The server keeps nothing but the key, so a
// session outlives a restart. The price is that one session cannot be revoked before it expires; an app with real
// accounts keeps its sessions in a table, and nothing else here would change.
type sessions struct {
	key []byte
	now func() time.Time
}

// openSessions reads the signing key at path, or makes one.
func openSessions(path string) (*sessions, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, 32)
		rand.Read(key) // never fails
		err = os.WriteFile(path, key, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("session key: %w", err)
	}
	if len(key) != 32 {
		return nil, fmt.Errorf("session key %s has %d bytes, want 32", path, len(key))
	}
	return &sessions{key: key, now: time.Now}, nil
}

func (s *sessions) sign(payload string) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(payload))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// start logs the browser in as user.
func (s *sessions) start(w http.ResponseWriter, r *http.Request, user string) {
	expires := s.now().Add(sessionTTL)
	payload := base64.RawURLEncoding.EncodeToString([]byte(user)) + "." + strconv.FormatInt(expires.Unix(), 10)
	http.SetCookie(w, &http.Cookie{
		Name:    sessionCookie,
		Value:   payload + "." + s.sign(payload),
		Path:    "/",
		Expires: expires,
		// No script can read it, and no other site can make a browser send it with a POST.
		HttpOnly: true,
		SameSite: http.SameSiteLaxMode,
		// Behind a proxy that ends TLS, set this from your configuration instead.
		Secure: r.TLS != nil,
	})
}

// end logs the browser out.
func (s *sessions) end(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// user returns who is logged in, and until when. Pages and streams both ask here: one login for both.
func (s *sessions) user(r *http.Request) (name string, expires time.Time, ok bool) {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return "", time.Time{}, false
	}
	i := strings.LastIndexByte(c.Value, '.')
	if i < 0 || !hmac.Equal([]byte(c.Value[i+1:]), []byte(s.sign(c.Value[:i]))) {
		return "", time.Time{}, false
	}
	// From here on the value is one that start made.
	name64, expiry, _ := strings.Cut(c.Value[:i], ".")
	b, err := base64.RawURLEncoding.DecodeString(name64)
	if err != nil {
		return "", time.Time{}, false
	}
	unix, err := strconv.ParseInt(expiry, 10, 64)
	if err != nil || s.now().Unix() >= unix {
		return "", time.Time{}, false
	}
	return string(b), time.Unix(unix, 0), true
}

// cleanName returns the name as it will be shown, or what is wrong with it as a sentence for its owner.
func cleanName(s string) (name, problem string) {
	name = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	switch {
	case name == "":
		return "", "Please enter a name."
	case utf8.RuneCountInString(name) > maxNameLength:
		return "", fmt.Sprintf("Please keep it to %d characters.", maxNameLength)
	case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		// Among them the characters that turn the direction of text and could make one name look like another.
		return "", "Please use only visible characters."
	}
	return name, ""
}
