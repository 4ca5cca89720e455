// Package redisbroker carries publications, history, presence and the operations of nodes over Redis, so that the same program
// runs on many machines, without sticky sessions.
//
//	broker, err := redisbroker.New(ctx, redisbroker.Config{
//		Servers: []redisbroker.Server{{Addresses: []string{"127.0.0.1:6379"}}},
//	})
//	if err != nil { … }
//	defer broker.Close()
//	node, err := fanfare.New(fanfare.Config{Broker: broker, Presence: broker.Presence()})
//
// It needs Redis 7.0 or later, or Valkey. A server is standalone, a Cluster, or watched by Sentinels; several independent ones share
// the channels by consistent hashing.
//
// # Publications and streams
//
// Publish is one round trip: one script compares the version, numbers, stores, trims and publishes in one step. What Redis has not
// numbered is delivered to nobody, also not to subscribers of the same node: with an error from Publish, nobody has an order to rely on.
// Then the publication may have been stored or not; with an idempotency key it may be repeated safely, and is stored once.
//
// Redis acknowledges before what it acknowledges is on a disk or on a replica. After a restart, a failover or a move of a slot the newest
// publications may be gone, and their offsets would be given again, to others. So a stream begins a new epoch then, although what is
// left of it stays readable: clients that come back are told that they may have missed something, and they read their state anew. The
// sign is master_replid of INFO; it also changes when a master gets its first replica, and an hour after it has lost the last one. With
// [Config.Durable] epochs change only when a stream is gone.
//
// A stream is two keys, which expire by themselves: the publications soon after the last of them is too old, the top [Config.StreamTTL]
// after its last use. If Redis evicts the top, the stream begins anew.
//
// # Subscriptions
//
// Each broker has one connection for subscriptions to each master, which all its nodes share; in a Cluster it uses sharded pub/sub. Many
// channels at once go to Redis in few commands. When such a connection breaks, by a restart, a failover, a limit of output buffers, or a
// server that does not answer, it is made again, after a pause of at most a second, part of it random; all channels are subscribed to
// again, and only then the nodes are told, which compare their channels with the streams and read what they have missed. Without history
// it is lost. Slots of a Cluster that move are followed.
//
// # When Redis is away
//
// Every operation ends within [Config.Timeout]. Once a master does not answer, all operations on what lives there fail with
// [ErrUnavailable] at once, until it has answered a PING again; the log has one line when it goes and one when it is back, as it has if
// Redis serves and only the connection for subscriptions cannot be made. Connections of clients stay. Nothing is queued for later: what
// is under way belongs to callers that wait, at most 1000 of them at each master, and further ones wait for their turn within their
// timeouts.
//
// # Rights
//
// An ACL user needs, with "fanfare" as the prefix,
//
//	resetkeys ~fanfare:* resetchannels &fanfare:* -@all +@connection +@hash +@string +@set +@sortedset +@stream +@scripting +@pubsub
//	+@keyspace -@dangerous +info +time
//
// and in a Cluster also +cluster|slots and +cluster|shards. Scripts call INFO: a server that forbids that is refused by [New].
//
// # Presence and leases
//
// A node that is attached, or has members in the presence, has a lease at every server, which its broker renews every third of
// [Config.Lease]: one script call for all that the process has there, and one INFO to each master, however many members there are.
// Members and counted connections belong to the lease, and are void when it is over:
//
//   - A node that ends with Shutdown takes its members and connections out. Nobody waits for a lease.
//   - A node that dies without a word counts for at most [Config.Lease], 10 s by default. Then its members vanish from Members and Stats,
//     and its connections make room, all together and everywhere. One of the other nodes takes them out, at most 500 with one script,
//     and tells whoever watches, so that leaves are published; another goes on if that one dies, too. Until they are taken out,
//     PresenceStats.Users and the counts of AddCounted still contain users of the dead node.
//   - A node that was only stopped for longer than its lease notices when it goes on, begins a new lease, and brings back all that it
//     still has. The others were told that its members had left: if it was away for a day at most, it tells that they have come again.
//   - Only the clocks of servers count. If a replica takes over whose clock is behind, a dead node counts longer by the difference, but
//     for at most ten leases.
//   - When a server was away, nobody is taken for dead until it has been back for the time of a lease: that leases ended meanwhile says
//     nothing about their nodes. When it has been started again, has failed over, or has lost the leases, every node puts in again what
//     it has, within a third of a lease after it is reached: 100 members with one script, 16 scripts at a time. Who left meanwhile is
//     not put in; who could not be taken out then is taken out now.
//
// While a server is away, Add, Remove, Members and Stats of its channels fail with [ErrUnavailable]. A member that could not be put in
// is not put in later either, but one that could not be replaced or removed is.
//
// Stats read a few counts of each node in the channel, and no member; Members and ScanMembers read at most 1000 members at a time. Redis
// must not evict keys (maxmemory-policy noeviction): it would evict members.
package redisbroker
