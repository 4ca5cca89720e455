package fanfare

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// origins decides from which origins browsers may connect.
type origins struct {
	any      bool
	exact    map[string]struct{} // "scheme://host"
	suffixes []originSuffix
}

// originSuffix is a pattern "scheme://*.domain".
type originSuffix struct{ scheme, domain string }

func newOrigins(allowed []string) (origins, error) {
	o := origins{exact: make(map[string]struct{})}
	for _, a := range allowed {
		if a == "*" {
			o.any = true
			continue
		}
		u, err := url.Parse(a)
		if err != nil || u.Scheme == "" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return o, fmt.Errorf("fanfare: Config.AllowedOrigins: %q is not an origin like https://example.com", a)
		}
		host, wild := strings.CutPrefix(strings.ToLower(u.Host), "*")
		switch {
		case strings.Contains(host, "*") || wild && !strings.HasPrefix(host, "."):
			return o, fmt.Errorf("fanfare: Config.AllowedOrigins: %q: a wildcard stands only for the first labels, as in https://*.example.com", a)
		case wild:
			o.suffixes = append(o.suffixes, originSuffix{strings.ToLower(u.Scheme), host})
		default:
			o.exact[strings.ToLower(u.Scheme)+"://"+host] = struct{}{}
		}
	}
	return o, nil
}

// allow reports whether the request may come from where it says. Only browsers send an origin, and only they carry a
// user's cookies to where the user did not mean to go.
func (o *origins) allow(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || o.any {
		return true
	}
	u, err := url.Parse(strings.ToLower(origin))
	if err != nil || u.Host == "" {
		return false // also "null", the origin of sandboxed frames
	}
	if u.Host == strings.ToLower(r.Host) {
		return true
	}
	if _, ok := o.exact[u.Scheme+"://"+u.Host]; ok {
		return true
	}
	for _, s := range o.suffixes {
		if u.Scheme == s.scheme && strings.HasSuffix(u.Host, s.domain) {
			return true
		}
	}
	return false
}
