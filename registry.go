package fanfare

import "iter"

// registry knows the connections of a node, by user once that is known. Its lists run through the clients themselves: a
// map costs more for each, and keeps the room of those that have gone. Node.mu guards it.
type registry struct {
	strangers *Client            // accepted, not authenticated: the first of a list
	users     map[string]*Client // the first of the user's list
}

// listing is a client's place in the registry.
type listing struct {
	next, prev *Client
	listed     bool
	known      bool // under its user
	counted    bool // for Config.MaxUserConnections
	replaced   bool // and about to be closed, because another came
}

// add enters a new connection.
func (r *registry) add(c *Client) { r.strangers = c.listBefore(r.strangers) }

// has reports whether a connection is still there.
func (r *registry) has(c *Client) bool { return c.listing.listed }

// know moves a connection, which must be there, from the strangers to its user.
func (r *registry) know(c *Client) {
	r.remove(c)
	user := c.User()
	if r.users == nil {
		r.users = make(map[string]*Client)
	}
	r.users[user] = c.listBefore(r.users[user])
	c.listing.known = true
}

// remove forgets a connection.
func (r *registry) remove(c *Client) {
	at := c.listing
	c.listing = listing{}
	if at.next != nil {
		at.next.listing.prev = at.prev
	}
	switch {
	case !at.listed:
	case at.prev != nil:
		at.prev.listing.next = at.next
	case !at.known:
		r.strangers = at.next
	case at.next != nil:
		r.users[c.User()] = at.next
	default:
		delete(r.users, c.User())
	}
}

// listBefore makes the client the first of a list, and returns it.
func (c *Client) listBefore(first *Client) *Client {
	c.listing = listing{next: first, listed: true}
	if first != nil {
		first.listing.prev = c
	}
	return c
}

// all returns every connection.
func (r *registry) all() iter.Seq[*Client] {
	return func(yield func(*Client) bool) {
		if !r.strangers.each(yield) {
			return
		}
		for _, first := range r.users {
			if !first.each(yield) {
				return
			}
		}
	}
}

// user returns the connections of a user.
func (r *registry) user(user string) iter.Seq[*Client] {
	return func(yield func(*Client) bool) { r.users[user].each(yield) }
}

// each goes through a list from its first client, which may be nil.
func (c *Client) each(yield func(*Client) bool) bool {
	for ; c != nil; c = c.listing.next {
		if !yield(c) {
			return false
		}
	}
	return true
}
