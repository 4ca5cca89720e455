-- Renews leases, begins new ones, and says who lives.
-- KEYS: leases (sorted set: when each ends), dying (sorted set: until when each dead incarnation is in somebody's hands),
--       removed (sorted set: which were taken away on purpose, and until when that is remembered), swept (the same of those whose
--       members were taken out because they were dead)
-- ARGV: lease and claim in ms; the time of the caller's last renewal, and since when it has had no interruption; how long ago the
--       lease that it claims must have ended, or -1 to claim none; how many new leases; these; those to renew
-- Returns the time, since when without interruption, leases with their ends, the dying, the lost, the lost ones that were taken
--       away, the claimed one, those that were renewed after their end, before anybody claimed them, and the lost ones that others
--       have claimed, so that somebody may have been told that their members are gone.
local leases, dying, removed, swept = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local lease, claim, last, steady, delay = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local new = tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local lost, taken, late, mourned = {}, {}, {}, {}
for i = 7, #ARGV do
  local inc = ARGV[i]
  local before = redis.call('ZSCORE', leases, inc)
  if i < 7 + new or before then
    if before and tonumber(before) <= now then table.insert(late, inc) end
    redis.call('ZADD', leases, now + lease, inc)
  else
    table.insert(lost, inc)
    -- Both are forgotten with time, not when they were told: the answer may be lost.
    if redis.call('ZSCORE', removed, inc) then
      table.insert(taken, inc)
    elseif redis.call('ZSCORE', dying, inc) or redis.call('ZSCORE', swept, inc) then
      table.insert(mourned, inc)
    end
  end
end

-- An end that is far away was told by another clock, of the master before a failover for instance, and would keep the dead alive. Leases
-- of other brokers may be longer, but not so much.
for _, set in ipairs({leases, dying}) do
  for _, inc in ipairs(redis.call('ZRANGEBYSCORE', set, '(' .. now + 10 * lease, '+inf')) do
    redis.call('ZADD', set, now + lease, inc)
  end
end

-- Whoever could not reach the server itself knows nothing of others: that a lease ended in the meantime may not be its node's fault.
if now < last or now - last > lease / 2 then steady = now end
local claimed = {}
if delay >= 0 and now - steady >= lease then
  claimed = redis.call('ZRANGEBYSCORE', dying, '-inf', now, 'LIMIT', 0, 1)
  if #claimed == 0 then
    claimed = redis.call('ZRANGEBYSCORE', leases, '-inf', now - delay, 'LIMIT', 0, 1)
  end
  if #claimed == 1 then
    redis.call('ZREM', leases, claimed[1])
    redis.call('ZADD', dying, now + claim, claimed[1])
  end
end
return {now, steady, redis.call('ZRANGE', leases, 0, -1, 'WITHSCORES'), redis.call('ZRANGE', dying, 0, -1), lost, taken, claimed, late, mourned}
