package delivery

import "github.com/fanfare-go/fanfare"

// Guests are clients of somebody else, which find the nodes at [Balancer.Address] and keep tales of their own.
type Guests interface {
	// Finish ends them when they stand at the end of every channel, and returns their tales, by client and channel. Nobody
	// publishes any more.
	Finish(end map[string]fanfare.Position) (map[string]map[string]Tale, error)
}

// Invite makes guests take part in the check at the end. It must not be called after [Run.Finish].
func (r *Run) Invite(g Guests) { r.guests = append(r.guests, g) }
