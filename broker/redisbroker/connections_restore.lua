-- Counts connections again that Redis may have lost, or knows under a former incarnation of their node, in which case they keep
-- their place.
-- ARGV: members
local missing, count = {}, 0 -- by node and client, without length and incarnation's token
for i = 1, #ARGV do
  if not redis.call('ZSCORE', key, ARGV[i]) then
    local _, node, client = parts(ARGV[i])
    missing[#node .. ':' .. node .. client] = ARGV[i]
    count = count + 1
  end
end
if count == 0 then return 0 end
-- They are read once, however many are missing: a user may have thousands.
local places = {}
local all = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
for j = 1, #all, 2 do
  local _, node, client = parts(all[j])
  local member = missing[#node .. ':' .. node .. client]
  if member then
    places[member] = all[j + 1]
    redis.call('ZREM', key, all[j])
  end
end
for i = 1, #ARGV do
  if places[ARGV[i]] then
    redis.call('ZADD', key, places[ARGV[i]], ARGV[i])
  elseif not redis.call('ZSCORE', key, ARGV[i]) then
    append(ARGV[i])
  end
end
return 0
