-- Ends the counting of all connections of an incarnation.
-- ARGV: incarnation
for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
  if parts(member) == ARGV[1] then redis.call('ZREM', key, member) end
end
return 0
