// Package natsbroker carries publications, history and the operations of nodes over NATS JetStream, so that the same program runs on
// many machines.
//
//	broker, err := natsbroker.New(ctx, natsbroker.Config{URL: "nats://127.0.0.1:4222"})
//	if err != nil { … }
//	defer broker.Close()
//	node, err := fanfare.New(fanfare.Config{Broker: broker})
//
// It needs NATS 2.12 or later, with JetStream. It makes one stream, named as [Config.Prefix], which holds all channels, and adopts one
// that is there already. Publishing to a channel with history is one round trip, in which the server stores what nobody else has
// overtaken; publishers of one process wait for each other, channel by channel, and those of several try again. A channel takes about
// as many publications a second as there are round trips in it. An idempotency key makes the publication and the key one atomic batch,
// of which a server takes some 50 at once. A stream on one server that is kept in files writes every batch to files of its own first, and
// nothing else meanwhile: 10 to 30 ms were measured, where a publication without a key took 0.2 ms. In memory, or with replicas, there
// are no such files.
//
// # What is lost, and who is told
//
// Messages reach the nodes without an acknowledgement, so they may be lost with a connection, or by a node that is too slow. Nodes
// find stored publications that are missing by their offsets and read them again; after a lost connection they are told to look.
// Publications without history, joins, leaves and control messages are simply lost. While the server is away every operation fails
// with [ErrUnavailable]: at once if the connection is known to be broken, and within [Config.Timeout] otherwise.
//
// A stream that has lost its data, or was deleted, is made anew, and every channel has a new epoch. JetStream acknowledges what the
// operating system has taken: the server may be killed and loses nothing, but a machine that loses its power may lose what was
// written in the last two minutes (the server's sync_interval). Brokers that were connected notice that the end of the stream is
// missing, if they are the first to come back, and forget it all, which gives every channel a new epoch; if another has published
// as much meanwhile, nobody notices. Who must not lose it sets "sync_interval: always", or [Config.Replicas] to 3: then the stream
// goes on with the servers that are left.
//
// Age is measured with the clock of the server, which every broker asks for now and then, so machines may disagree about the time.
//
// # What is not here
//
// A [Broker] is no [fanfare.ConnectionCounter]: each node counts the connections of a user on its own. And there is no presence over
// NATS: presence in memory knows the members of its own node alone, so use the one of package redisbroker, or none.
//
// In a cluster of NATS servers a publication without history may miss a node that has subscribed on another server a moment ago:
// servers tell each other of subscriptions, but nobody waits for it. What is stored does not miss it.
//
// Credentials need permission to publish and subscribe to "PREFIX.>", to subscribe to "_INBOX.>", and to publish to
// "$JS.API.STREAM.*.PREFIX", "$JS.API.STREAM.MSG.GET.PREFIX" and "$JS.API.DIRECT.GET.PREFIX.>". Who has them can publish to every channel.
package natsbroker
