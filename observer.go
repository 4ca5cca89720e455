package fanfare

import "time"

// Observer sees what happens on a node: the seam for metrics and tracing. Its methods are called on hot paths, from any
// goroutine, possibly at once, some with locks held: they must be quick, and must not block, panic or call the node, but for
// [Node.Pattern]. Embed [NopObserver] to implement only some of them, and to go on compiling when there are more. What a node
// holds at a moment, how many connections for instance, is not told here: [Node.Stats] counts it when somebody asks. Package
// prommetrics is an Observer for Prometheus.
type Observer interface {
	// Connected is called for every connect command: err is nil when the client was accepted. Otherwise it is what the client was
	// told, an *[Error] or *[Disconnect], which is [ErrInternal] where a hook failed or took too long; or another error where it
	// could not be told: it had left, or a hook had panicked.
	Connected(transport string, took time.Duration, err error)
	// Disconnected is called when an accepted connection has ended.
	Disconnected(transport string, code uint32)
	// Command is called when a client's command was answered. Code is that of the reply error or disconnect; 0 is success.
	Command(method string, took time.Duration, code uint32)
	// Published is called once per publication that reached this node, when every subscriber has had its turn, with how
	// many it was written to or queued for.
	Published(channel string, size, subscribers int)
	// Delivered is called right after Published, if anybody was to get the publication, with how long that took: from when the
	// broker handed it to this node until it was written to, or queued for, the last subscriber. What was lost on the way, and
	// what came meanwhile, counts from when the node began to repair the gap.
	Delivered(channel string, took time.Duration)
	// Dropped is called when publications queued for a client were dropped, with their number.
	Dropped(channel string, publications int)
	// Recovered is called for every attempt of a client to recover, with how many publications it got.
	Recovered(channel string, ok bool, publications int)
	// Repaired is called when the node found a gap in a channel and tried to fill it from history.
	Repaired(channel string, ok bool, publications int)
	// HookSlow is called when a hook took longer than [Config.SlowHook].
	HookSlow(hook string, took time.Duration)
	// HookPanicked is called when a hook panicked.
	HookPanicked(hook string)
}

// NodeObserver is an [Observer] that asks the node, too. If [Config.Observer] is one, [New] calls Attach before any other of its
// methods, and [Node.Shutdown] calls Detach when the node has ended. One observer may serve several nodes.
type NodeObserver interface {
	Observer
	Attach(n *Node)
	Detach(n *Node)
}

// NopObserver does nothing.
type NopObserver struct{}

var _ Observer = NopObserver{}

func (NopObserver) Connected(string, time.Duration, error) {}
func (NopObserver) Disconnected(string, uint32)            {}
func (NopObserver) Command(string, time.Duration, uint32)  {}
func (NopObserver) Published(string, int, int)             {}
func (NopObserver) Delivered(string, time.Duration)        {}
func (NopObserver) Dropped(string, int)                    {}
func (NopObserver) Recovered(string, bool, int)            {}
func (NopObserver) Repaired(string, bool, int)             {}
func (NopObserver) HookSlow(string, time.Duration)         {}
func (NopObserver) HookPanicked(string)                    {}
