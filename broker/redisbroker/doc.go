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
//     still has. The others were told that its members had left.
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
