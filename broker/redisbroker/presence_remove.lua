-- Takes clients out that a node holds, under whatever incarnation.
-- ARGV: node; clients
-- Returns how many clients the user of the last one has left, or -1 if that client is not there or is another node's.
local left = -1
for i = 2, #ARGV do
  local client = ARGV[i]
  local number = redis.call('ZSCORE', order, client)
  local inc = number and redis.call('ZRANGEBYSCORE', nodes, number, number)[1]
  left = -1
  if inc and string.sub(inc, 18) == ARGV[1] then
    local value = redis.call('HGET', members, client)
    redis.call('HDEL', members, client)
    redis.call('ZREM', order, client)
    if value then left = less(user_of(value)) end
    tidy(number)
  end
end
return left
