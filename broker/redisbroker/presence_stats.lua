-- Returns the number of users, then each incarnation and how many clients it holds.
local result = {redis.call('HLEN', users)}
local holders = redis.call('ZRANGE', nodes, 0, -1, 'WITHSCORES')
for i = 1, #holders, 2 do
  table.insert(result, holders[i])
  table.insert(result, redis.call('ZCOUNT', order, holders[i + 1], holders[i + 1]))
end
return result
