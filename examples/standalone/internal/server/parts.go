package server

import (
	"errors"

	"github.com/fanfare-go/fanfare"
)

// What is not linked in yet refuses its keys.

func (s *Server) useTokens() error {
	if s.config.Tokens() {
		return errors.New("token_hmac_secret and jwks_url: this build knows no tokens")
	}
	return nil
}

func (s *Server) useWebhooks(*fanfare.Config) error {
	if s.config.Webhooks.Any() {
		return errors.New("webhooks: this build knows none")
	}
	return nil
}

func (s *Server) useMetrics(*fanfare.Config) (func(), error)                { return func() {}, nil }
func (s *Server) useAPI()                                                   {}
func (s *Server) remember(*fanfare.ConnectRequest, *fanfare.Identity) error { return nil }
func (s *Server) cameByApp(*fanfare.Client) bool                            { return false }
