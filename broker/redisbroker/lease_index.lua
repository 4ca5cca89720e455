-- Changes the index of an incarnation: the sorted set of its places.
-- KEYS: index
-- ARGV: command, places
return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
