package serverapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// authorized reports whether a request has one of the keys, in the places and the order of spec 16.1.
func (a *api) authorized(r *http.Request) bool {
	if a.config.Insecure {
		return true
	}
	if key, ok := headerKey(r.Header); ok && a.known(key) {
		return true
	}
	// Looked at last, because addresses are logged by proxies.
	key := r.URL.Query().Get("api_key")
	return key != "" && a.known(key)
}

// headerKey returns the key of the headers. Authorization counts only without X-API-Key.
func headerKey(h http.Header) (key string, ok bool) {
	if values := h.Values("X-API-Key"); len(values) > 0 {
		return values[0], true
	}
	word, key, ok := strings.Cut(h.Get("Authorization"), " ")
	return strings.TrimSpace(key), ok && strings.EqualFold(word, "apikey")
}

// known compares a key with all that there are: which one it is, or how much of one, takes no different time.
func (a *api) known(key string) bool {
	hash, equal := sha256.Sum256([]byte(key)), 0
	for i := range a.keys {
		equal |= subtle.ConstantTimeCompare(hash[:], a.keys[i][:])
	}
	return equal == 1
}
