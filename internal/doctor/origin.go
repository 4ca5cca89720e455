package doctor

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Refused is the finding that the origin of a request is not allowed.
func Refused(r *http.Request, allowed []string) Finding {
	origin := r.Header.Get("Origin")
	u, err := url.Parse(strings.ToLower(origin))
	if err != nil || u.Host == "" {
		u = &url.URL{}
	}
	host, original := strings.ToLower(r.Host), strings.ToLower(r.Header.Get("X-Forwarded-Host"))
	text := fmt.Sprintf("origin %q may not connect to host %q: refused with 403. ", short(origin), short(r.Host))
	switch listed, with := nearly(u, allowed); {
	case u.Host == "":
		text += "That is a page without an origin: a file, or a sandboxed frame. Open it from the app's own address"
	case original != "" && u.Host == original:
		text += fmt.Sprintf("A proxy in front changed the Host header (X-Forwarded-Host is %q): let it pass Host through (nginx: "+
			"proxy_set_header Host $http_host), or add the origin to Config.AllowedOrigins", short(original))
	case with != "":
		text += fmt.Sprintf("Config.AllowedOrigins has %q, which differs in %s", short(listed), with)
	case hostname(u.Host) == hostname(host):
		text += "Only the port differs: a proxy in front changed or dropped it in Host (nginx: proxy_set_header Host " +
			"$http_host), or this is another server on the same machine: then add the origin to Config.AllowedOrigins"
	case proxied(r):
		text += "The request came through a proxy, which may have changed the Host header: let it pass Host through (nginx: " +
			"proxy_set_header Host $http_host). If the page is another site of yours, add its origin to Config.AllowedOrigins"
	default:
		text += "If the page is yours, add its origin to Config.AllowedOrigins. If not, a foreign site tried to use your " +
			"user's cookies"
	}
	return Finding{Key: ForeignOrigin, Subject: short(u.Host), Text: text}
}

// nearly finds an allowed origin that somebody meant to be this one, and says what differs.
func nearly(u *url.URL, allowed []string) (listed, with string) {
	for _, a := range allowed {
		l, err := url.Parse(strings.ToLower(a))
		if err != nil || l.Host == "" || u.Host == "" {
			continue
		}
		domain, wild := strings.CutPrefix(l.Host, "*")
		switch {
		case l.Host == u.Host || wild && strings.HasSuffix(u.Host, domain):
			return a, fmt.Sprintf("its scheme: the page's is %s", short(u.Scheme))
		case wild && u.Scheme == l.Scheme && "."+u.Host == domain:
			return a, "that the wildcard stands for one label at least: list the domain itself too"
		case hostname(l.Host) == u.Host && u.Scheme == l.Scheme && (l.Port() == "443" || l.Port() == "80"):
			return a, "its port: browsers leave out a default one"
		}
	}
	return "", ""
}

// hostname is a host without its port.
func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }
