-- Publishes without storing, unless the idempotency key of KEYS[1] is known already; returns the position that is remembered
-- with it. ARGV: 1 the message, 2 the channel of subscribers, 3 the command that publishes there, 4 how long the key is remembered.
local first = redis.call('GET', KEYS[1])
if first then return first end
redis.call('SET', KEYS[1], '', 'PX', ARGV[4])
redis.call(ARGV[3], ARGV[2], ARGV[1])
return ''
