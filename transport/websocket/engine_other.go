//go:build !linux

package websocket

// engine is empty where there is no dense one.
type engine struct{}

// adopt returns the connection as it is: only Linux has something denser.
func (*Transport) adopt(c *conn, _ offer) door { return c }
