package fanfare

// ForgetEpochs makes a channel and its subscriptions as if its stream had had no epoch yet when they began.
func (n *Node) ForgetEpochs(channel string) {
	r, ok := n.hub.Get(channel)
	if !ok {
		panic("nobody watches " + channel)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.top.Epoch, r.delivered.Epoch = "", ""
	for _, a := range r.audiences {
		if a == nil {
			continue
		}
		for _, s := range a.subs {
			s.mu.Lock()
			s.position.Epoch = ""
			s.mu.Unlock()
		}
	}
}

// Subscribers is how many subscriptions take part in the fan-out of a channel.
func (n *Node) Subscribers(channel string) int {
	r, ok := n.hub.Get(channel)
	if !ok {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.subscribers
}

// CountedBrowsers is of how many browsers the open streams are counted.
func (n *Node) CountedBrowsers() int {
	n.crowd.mu.Lock()
	defer n.crowd.mu.Unlock()
	return len(n.crowd.streams)
}

// KeepsForDeltas reports whether a channel keeps its newest publication for those who take deltas.
func (n *Node) KeepsForDeltas(channel string) bool {
	r, ok := n.hub.Get(channel)
	if !ok {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last != nil
}
