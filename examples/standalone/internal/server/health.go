package server

import (
	"errors"
	"net/http"
)

// health answers whether the process is alive. It stays so during a drain: who is restarted because it is shutting down does not
// shut down.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) { answer(w, nil) }

// ready answers whether new clients should be sent here.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		answer(w, errors.New("draining"))
		return
	}
	answer(w, s.node.Ready())
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"status":"draining"}` + "\n"))
		return
	}
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
}
