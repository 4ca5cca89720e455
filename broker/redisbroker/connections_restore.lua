-- Counts connections again that Redis may have lost, or knows under a former incarnation of their node, in which case they keep
-- their place.
-- ARGV: members
for i = 1, #ARGV do
  if not redis.call('ZSCORE', key, ARGV[i]) then
    local _, node, client = parts(ARGV[i])
    local place
    local all = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for j = 1, #all, 2 do
      local _, n, c = parts(all[j])
      if n == node and c == client then
        place = all[j + 1]
        redis.call('ZREM', key, all[j])
      end
    end
    if place then redis.call('ZADD', key, place, ARGV[i]) else append(ARGV[i]) end
  end
end
return 0
