package fanfare

import "slices"

// SelectOption narrows an operation on a user's connections to some of them. Given several, a connection must pass all.
type SelectOption func(*selection)

// OnlyClient selects the connection with this id, see [Client.ID]. An id that no connection of the user has selects none.
func OnlyClient(id string) SelectOption { return func(s *selection) { s.Client = &id } }

// OnlySession selects the connection with this session, which a connection that cannot send commands by itself, a unidirectional or
// emulated one, is told at connect. An empty one selects none.
func OnlySession(id string) SelectOption { return func(s *selection) { s.Session = &id } }

// ExceptClients spares the connections with these ids.
func ExceptClients(ids ...string) SelectOption {
	return func(s *selection) { s.Except = append(s.Except, ids...) }
}

// selection is which connections of a user are meant; nil means all. It travels to other nodes.
type selection struct {
	Client  *string  `json:"client,omitempty"`
	Session *string  `json:"session,omitempty"`
	Except  []string `json:"except,omitempty"`
}

func selectionOf(opts []SelectOption) *selection {
	if len(opts) == 0 {
		return nil
	}
	s := &selection{}
	for _, opt := range opts {
		opt(s)
	}
	return s
}

// has reports whether a connection is meant.
func (s *selection) has(c *Client) bool {
	switch {
	case s == nil:
		return true
	case s.Client != nil && *s.Client != c.id:
		return false
	case s.Session != nil && (*s.Session == "" || *s.Session != c.session):
		return false
	}
	return !slices.Contains(s.Except, c.id)
}

// selectedPrefix marks in a [controlMessage] operations that are about some of a user's connections: a node that knows nothing of
// selections must not carry them out for all.
const selectedPrefix = "selected "
