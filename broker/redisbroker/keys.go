package redisbroker

import "crypto/sha256"

// Names in Redis are PREFIX:KIND:{.NAME}SUFFIX. What belongs to one channel or user hashes to one slot of a Cluster by the part in
// braces, of which Redis looks at the first opening and the first closing one behind it. The dot keeps that part from being empty,
// and everything variable comes before a fixed suffix or has a fixed length, so that different things have different names.
const (
	kindMeta    = "m" // hash: what is known of a channel's stream
	kindStream  = "s" // stream: the publications
	kindRepeat  = "r" // string: the position of a publication with an idempotency key
	kindLive    = "c" // pub/sub channel: publications and memberships
	kindControl = "n" // pub/sub channel: control messages to one node, or to all

	kindLease   = "l" // sorted sets: when the lease of each node ends, and who is dead; the channels and users that a node has
	kindMembers = "p" // hashes and sorted sets: presence
	kindUser    = "u" // sorted set: the connections of a user
)

func (b *Broker) key(kind, name string) string {
	return b.config.Prefix + ":" + kind + ":{." + name + "}"
}

// repeatKey is where an idempotency key of a channel is remembered. Keys may be of any length and contain anything.
func (b *Broker) repeatKey(channel, idempotencyKey string) string {
	sum := sha256.Sum256([]byte(idempotencyKey))
	return b.key(kindRepeat, channel) + string(sum[:16])
}
