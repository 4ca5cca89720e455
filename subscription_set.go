package fanfare

import "iter"

// subscriptionSet holds a client's subscriptions by channel. Most clients have a few: then it is a list, at 8 bytes each,
// in no particular order. The zero value is ready to use.
type subscriptionSet struct {
	few  []*subscription
	many map[string]*subscription // instead of few, once there were more than maxFew
}

// maxFew is the most subscriptions that are found by looking at each.
const maxFew = 16

func (t *subscriptionSet) get(channel string) *subscription {
	if t.many != nil {
		return t.many[channel]
	}
	for _, s := range t.few {
		if s.channel == channel {
			return s
		}
	}
	return nil
}

// add enters a subscription. Its channel must have none.
func (t *subscriptionSet) add(s *subscription) {
	switch {
	case t.many != nil:
		t.many[s.channel] = s
	case len(t.few) < maxFew:
		t.few = append(t.few, s)
	default:
		t.many = make(map[string]*subscription, 2*maxFew)
		for _, other := range t.few {
			t.many[other.channel] = other
		}
		t.many[s.channel] = s
		t.few = nil
	}
}

// remove takes this very subscription out, if it is in.
func (t *subscriptionSet) remove(s *subscription) {
	if t.many != nil {
		if t.many[s.channel] == s {
			delete(t.many, s.channel)
		}
		if len(t.many) == 0 {
			t.many = nil
		}
		return
	}
	for i, other := range t.few {
		if other == s {
			last := len(t.few) - 1
			t.few[i], t.few[last] = t.few[last], nil
			t.few = t.few[:last]
			return
		}
	}
}

func (t *subscriptionSet) len() int { return len(t.few) + len(t.many) }

// all returns the subscriptions. The set must not be changed meanwhile.
func (t *subscriptionSet) all() iter.Seq[*subscription] {
	return func(yield func(*subscription) bool) {
		for _, s := range t.few {
			if !yield(s) {
				return
			}
		}
		for _, s := range t.many {
			if !yield(s) {
				return
			}
		}
	}
}
