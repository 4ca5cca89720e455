package server

import "github.com/fanfare-go/fanfare"

// Node is the node of a server, for clients without a network.
func (s *Server) Node() *fanfare.Node { return s.node }
