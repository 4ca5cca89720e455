package websocket

import "github.com/coder/websocket"

// closeCode maps codes that a close frame cannot carry to 1011, after which clients reconnect, as they do for codes
// from 5000 on (spec 9.3).
func closeCode(code uint32) websocket.StatusCode {
	switch {
	case code >= 3000 && code <= 4999:
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
	default:
		return websocket.StatusInternalError
	}
	return websocket.StatusCode(code)
}
