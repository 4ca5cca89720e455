-- Puts clients in, or replaces their entries.
-- ARGV: incarnation; then client and value of each
-- Returns how many clients the user of the last one has.
local me = redis.call('ZSCORE', nodes, ARGV[1])
if not me then
  -- Numbers grow, so that who reads pages meets newer incarnations later.
  local last = redis.call('ZRANGE', nodes, -1, -1, 'WITHSCORES')
  me = tostring(tonumber(last[2] or 0) + 1)
  redis.call('ZADD', nodes, me, ARGV[1])
end
local user
for i = 2, #ARGV, 2 do
  local client, value = ARGV[i], ARGV[i + 1]
  local before, number = redis.call('HGET', members, client), redis.call('ZSCORE', order, client)
  user = user_of(value)
  redis.call('HSET', members, client, value)
  redis.call('ZADD', order, me, client)
  redis.call('HINCRBY', users, user, 1)
  if before then less(user_of(before)) end
  if number and number ~= me then tidy(number) end
end
return tonumber(redis.call('HGET', users, user))
