-- Ends the counting of connections.
-- ARGV: members
for i = 1, #ARGV do redis.call('ZREM', key, ARGV[i]) end
return 0
