-- Ends leases before their time.
-- KEYS: as of lease_renew.lua
-- ARGV: in how many ms whoever finds them is to sweep them, or -1 if nothing is left to sweep; how many ms it is remembered that
--       they were taken away on purpose, or 0; incarnations
local leases, dying, removed = KEYS[1], KEYS[2], KEYS[3]
local sweep, remember = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', removed, '-inf', now)
for i = 3, #ARGV do
  redis.call('ZREM', leases, ARGV[i])
  if sweep >= 0 then redis.call('ZADD', dying, 'NX', now + sweep, ARGV[i]) end
  if remember > 0 then
    redis.call('ZADD', removed, now + remember, ARGV[i])
    if redis.call('PTTL', removed) < remember then redis.call('PEXPIRE', removed, remember) end
  end
end
return 0
