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

func (s *Server) useMetrics(*fanfare.Config) (func(), error) { return func() {}, nil }
func (s *Server) useAPI()                                    {}
