-- Takes out some of the members of an incarnation.
-- ARGV: incarnation, how many
-- Returns client and value of each.
local number = redis.call('ZSCORE', nodes, ARGV[1])
if not number then return {} end
local gone = {}
for _, client in ipairs(redis.call('ZRANGEBYSCORE', order, number, number, 'LIMIT', 0, ARGV[2])) do
  local value = redis.call('HGET', members, client)
  redis.call('HDEL', members, client)
  redis.call('ZREM', order, client)
  if value then less(user_of(value)) end
  table.insert(gone, client)
  table.insert(gone, value or '')
end
tidy(number)
return gone
