package server

import (
	"github.com/fanfare-go/fanfare/jwtauth"
)

// useTokens makes tokens hooks, if the file says what they are verified by.
func (s *Server) useTokens() error {
	c := s.config
	if !c.Tokens() {
		return nil
	}
	verifier, err := jwtauth.New(jwtauth.Config{
		HMACSecret: []byte(c.TokenHMACSecret.Reveal()),
		JWKSURL:    c.JWKSURL,
		Audience:   c.TokenAudience,
		Issuer:     c.TokenIssuer,
		Anonymous:  c.Anonymous,
		Logger:     s.log,
	})
	if err != nil {
		key := "token_hmac_secret"
		if !c.TokenHMACSecret.IsSet() {
			key = "jwks_url"
		}
		return c.Problem(key, "%v", err)
	}
	s.tokens = verifier
	return nil
}
