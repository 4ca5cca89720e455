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
package redisbroker
