package server

import "github.com/fanfare-go/fanfare"

// Node is the node of a server, for clients without a network.
func (s *Server) Node() *fanfare.Node { return s.node }

// Options is what the node is told of a channel.
func Options(s *Server, channel int) fanfare.ChannelOptions {
	return s.options(&s.config.Channels[channel])
}
