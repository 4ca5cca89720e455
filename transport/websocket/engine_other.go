//go:build !linux

package websocket

import (
	"net"
	"net/http"
)

// engine is empty where there is no dense one.
type engine struct{}

// mayAdopt reports that there is nothing denser: only Linux has it.
func (*Transport) mayAdopt(*http.Request) bool { return false }

func (*Transport) adopt(net.Conn, []byte, offer) door { return nil }
