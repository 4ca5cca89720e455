package server

import "github.com/fanfare-go/fanfare"

func (s *Server) useMetrics(*fanfare.Config) (func(), error) { return func() {}, nil }
func (s *Server) useAPI()                                    {}
