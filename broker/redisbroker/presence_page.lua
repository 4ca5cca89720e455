-- Reads some members, in the order of incarnation and client.
-- ARGV: number and client after which to begin, or two empty ones; how many
-- Returns incarnations and their numbers; then clients, each with the number of its incarnation; then their values.
local from, after, limit = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

-- Whether a comes after b, byte by byte: the order of a sorted set, which that of Lua's strings need not be.
local function beyond(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x > y end
  end
  return #a > #b
end

-- The client may have left since: its place is searched for.
local low, high = 0, 0
if from then high = redis.call('ZCARD', order) end
while low < high do
  local middle = math.floor((low + high) / 2)
  local at = redis.call('ZRANGE', order, middle, middle, 'WITHSCORES')
  local number = tonumber(at[2])
  if number > from or number == from and beyond(at[1], after) then high = middle else low = middle + 1 end
end

local clients = redis.call('ZRANGE', order, low, low + limit - 1, 'WITHSCORES')
local names = {}
for i = 1, #clients, 2 do table.insert(names, clients[i]) end
local values = {}
if #names > 0 then values = redis.call('HMGET', members, unpack(names)) end
for i = 1, #names do values[i] = values[i] or '' end -- a nil would end the list
return {redis.call('ZRANGE', nodes, 0, -1, 'WITHSCORES'), clients, values}
