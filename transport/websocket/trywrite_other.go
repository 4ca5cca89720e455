//go:build !unix

package websocket

import "github.com/fanfare-go/fanfare/transport"

// newTryConn returns nil: the core then takes the path that may block.
func newTryConn(*conn) transport.Conn { return nil }
