package server

import (
	"net/http"

	"github.com/fanfare-go/fanfare/serverapi"
)

// useAPI makes the HTTP server API, if the file has a key for it. Without one there is none: an API that is open by mistake
// would be everybody's.
func (s *Server) useAPI() (http.Handler, error) {
	if !s.config.APIKey.IsSet() {
		return http.NotFoundHandler(), nil
	}
	api, err := serverapi.New(s.node, serverapi.Config{Keys: []string{s.config.APIKey.Reveal()}, Logger: s.log})
	if err != nil {
		return nil, s.config.Problem("api_key", "%v", err)
	}
	return api, nil
}
