// Package fanfare makes parts of an ordinary net/http app live: whoever watches a channel has what the app publishes to it
// within the blink of an eye.
//
// # A node
//
// A [Node] serves connections and carries publications to them. It is an [http.Handler]: mount it beside your own handlers,
// and every transport is under one route.
//
//	node, err := fanfare.New(fanfare.Config{Authenticate: authenticate})
//	if err != nil { … }
//	node.Channel("room:{id}", fanfare.ChannelOptions{Subscribe: maySubscribe, Presence: true})
//	mux.Handle("/realtime/", node)
//
// Then publish from any handler, on any goroutine, whenever your own data has changed:
//
//	position, err := node.Publish(ctx, "room:42", []byte(`{"text":"hi"}`))
//
// Clients are the published Centrifuge SDKs (npm centrifuge, and those for Go, Swift, Java, Dart and Python); or, without any
// SDK, the EventSource of a browser at the transport "events", and whatever can make a request at "poll".
//
// # Who is it
//
// [Config.Authenticate] gets the HTTP request that opened the connection, with the cookies and whatever your middleware
// put into its context, and returns an [Identity]. No token endpoint is needed. Without the hook every client is anonymous.
//
// # Channels
//
// [Node.Channel] declares the channels of a pattern with everything about them: who may watch, publish and read; history;
// recovery; presence; what happens to slow readers. Everything is closed until said otherwise, and a channel that matches
// no pattern does not exist.
//
// # Once, in order, or told
//
// On a channel with [History], every message whose Publish returned nil reaches every subscriber that stays, or comes back
// within retention: once, in one order common to all; or that subscriber is told that it has a gap before it sees anything
// newer. Each publication has a [Position]; a client that comes back names its own and gets what followed. Messages that a
// node misses are read again from history, and only what history no longer holds is told.
//
// Without history a message reaches those who are connected, at most once, in order.
//
// # What is sent
//
// Clients get every publication whole, unless they ask for less: [ChannelOptions.Delta] lets them have what has changed since the
// one before, [ChannelOptions.TagsFilter] only what they choose.
//
// # Hooks
//
// Hooks are ordinary blocking functions, func(ctx, request) (reply, error). A hook that is slow, hangs or panics costs the
// one connection it was called for, and nothing else: see [Config].
//
// # Many nodes
//
// A node by itself keeps everything in its process. Nodes on several machines are one if they share a [Broker], and a [Presence]
// where there is any: packages broker/redisbroker and broker/natsbroker. docs/brokers.md compares them.
//
// # Concurrency and the end
//
// Every method of a [Node] and a [Client] may be called from any goroutine. Publish never waits for a reader. Call
// [Node.Shutdown] before [http.Server.Shutdown], which does not know the connections that were taken over from it.
//
// # Testing
//
// Package fanfaretest has a client without a network, for tests of your channels and hooks, also inside testing/synctest.
package fanfare
