-- Lets go of a dead incarnation of which nothing is left.
-- KEYS: dying, swept
-- ARGV: incarnation; how many ms it is remembered that its members were taken out, or 0
redis.call('ZREM', KEYS[1], ARGV[1])
local remember = tonumber(ARGV[2])
if remember > 0 then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  redis.call('ZADD', KEYS[2], now + remember, ARGV[1])
  redis.call('PEXPIRE', KEYS[2], remember)
end
return 0
