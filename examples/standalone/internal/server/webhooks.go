package server

import (
	"net/http"
	"slices"

	"github.com/fanfare-go/fanfare"
	"github.com/fanfare-go/fanfare/webhook"
)

// useWebhooks makes the app's endpoints hooks.
func (s *Server) useWebhooks(nc *fanfare.Config) error {
	w := &s.config.Webhooks
	if !w.Any() {
		return nil
	}
	static := make(http.Header)
	for name, value := range w.Static {
		static.Set(name, value.Reveal())
	}
	hooks, err := webhook.New(webhook.Config{
		Connect: w.Connect, Refresh: w.Refresh, Subscribe: w.Subscribe, SubRefresh: w.SubRefresh, Publish: w.Publish, RPC: w.RPC,
		Headers: forwarded(w.Headers), Static: static, Timeout: w.Timeout, MaxConcurrent: w.MaxConcurrent, Logger: s.log,
	})
	if err != nil {
		return s.config.Problem("webhooks", "%v", err)
	}
	s.app = hooks
	if w.RPC != "" {
		nc.RPC = hooks.RPC
	}
	return nil
}

// forwarded are the browser's cookies, which are the login, and what the file says beside them.
func forwarded(headers []string) []string {
	isCookie := func(name string) bool { return http.CanonicalHeaderKey(name) == "Cookie" }
	return append([]string{"Cookie"}, slices.DeleteFunc(slices.Clone(headers), isCookie)...)
}

// outsider is the state of a connection about which the app was not asked: later questions about it go with its headers, too.
type outsider struct{ *webhook.State }

func (s *Server) remember(r *fanfare.ConnectRequest, id *fanfare.Identity) error {
	if s.app == nil {
		return nil
	}
	state, err := s.app.NewState(r)
	if err != nil {
		return err
	}
	id.State = outsider{state}
	return nil
}

// cameByApp reports whether the app said who the client is.
func cameByApp(c *fanfare.Client) bool {
	_, ok := c.State().(*webhook.State)
	return ok
}
