//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/fanfare-go/fanfare"
)

// sessionInterval is how often the node "session" re-checks its connections.
const sessionInterval = time.Second

// sessionTable is an app's sessions. Browsers log in and have a cookie from then on; in Node, where fetch and the WebSocket share no
// cookies, a session has the user's name.
type sessionTable struct {
	mu     sync.Mutex // guards below
	closed map[string]bool
}

func sessionCookie(user string) string { return "session-" + user }

// session returns the id of the request's session.
func session(r *http.Request, user string) (id string, byCookie bool) {
	if c, err := r.Cookie(sessionCookie(user)); err == nil {
		return c.Value, true
	}
	return user, false
}

func (s *sessionTable) end(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed == nil {
		s.closed = make(map[string]bool)
	}
	s.closed[user], s.closed["cookie of "+user] = true, true
}

func (s *sessionTable) refusal(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed[id] {
		return fanfare.ErrUnauthorized
	}
	return nil
}

// serveLogin gives the browser a cookie.
func (s *server) serveLogin(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: sessionCookie(o.User), Value: "cookie of " + o.User, Quoted: true, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteStrictMode})
	_, _ = w.Write([]byte("{}"))
}

// sessionConfig is a node whose users have sessions and no tokens: it re-checks them, and prolongs by itself what expires.
func (s *server) sessionConfig() fanfare.Config {
	return fanfare.Config{
		Authenticate: func(ctx context.Context, r *fanfare.ConnectRequest) (fanfare.Identity, error) {
			id, err := s.authenticate(ctx, r)
			if err != nil {
				return id, err
			}
			name, byCookie := session(r.HTTP, id.User)
			s.diary.note(id.User, func(p *page) { p.Connects = append(p.Connects, byCookie) })
			return id, s.sessions.refusal(name)
		},
		Refresh: func(_ context.Context, r *fanfare.RefreshRequest) (fanfare.RefreshReply, error) {
			s.diary.note(r.Client.User(), func(p *page) { p.Refreshes = append(p.Refreshes, r.Token) })
			return fanfare.RefreshReply{ExpireAt: after(1000)}, s.sessions.refusal(r.Client.User())
		},
		Revalidate: fanfare.Revalidate{Interval: sessionInterval, Check: func(_ context.Context, r *fanfare.RevalidateRequest) error {
			name, byCookie := session(r.HTTP, r.Client.User())
			s.diary.note(r.Client.User(), func(p *page) { p.Checks = append(p.Checks, byCookie) })
			return s.sessions.refusal(name)
		}},
		Logger: s.logger, ExpiryGrace: 5 * time.Second, DrainWindow: -1, // the grace of a busy machine
	}
}

// prolong is a SubRefresh that needs no token.
func (s *server) prolong(_ context.Context, r *fanfare.SubRefreshRequest) (fanfare.SubRefreshReply, error) {
	s.diary.note(r.Client.User(), func(p *page) { p.SubRefreshes = append(p.SubRefreshes, r.Token) })
	return fanfare.SubRefreshReply{ExpireAt: after(1000)}, nil
}
