-- What the scripts over a channel's stream begin with. They make no function that they do not need: that would cost as much as a
-- command.
--
-- KEYS[1] is a hash, what is known of the stream:
--   e epoch, o offset of the newest publication, c its time, l life of the server under which all that was said,
--   t age (TTL) at which publications expire; "upto:age," in g, rising in both, holds for older ones,
--   x before this time nothing expires, s when the key of the stream itself expires, k when to prolong this hash,
--   v and w version and its epoch.
-- KEYS[2] is the stream. Ids are OFFSET-TIME. Offsets are dense, so that the length tells the oldest one.
-- ARGV[1] is an epoch nobody has used, ARGV[2] "1" if the server loses nothing, ARGV[3] how long the hash lives when it is
-- not used. All times are in milliseconds.
local meta, stream = KEYS[1], KEYS[2]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local known = redis.call('HMGET', meta, 'e', 'o', 'c', 'l', 't', 'g', 'x', 's', 'k', 'v', 'w')
local epoch, top, stamp = known[1], tonumber(known[2]), tonumber(known[3])
local age, ages, expires = tonumber(known[5]), known[6] or '', tonumber(known[7]) or 0
local kept, renew = tonumber(known[8]) or 0, tonumber(known[9]) or 0

-- A server acknowledges before it has written to a disk or a replica. In another life it may have forgotten the end of the
-- stream, and offsets that are given again would mean something else, so they get another epoch. What is stored stays.
local life = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
if not epoch then
  epoch, top, stamp, age, ages, expires, kept, renew = ARGV[1], 0, 0, nil, '', 0, 0, 0
  known[10], known[11] = false, false
  redis.call('UNLINK', stream)
  redis.call('HSET', meta, 'e', epoch, 'o', 0, 'c', 0, 'l', life)
elseif known[4] ~= life and ARGV[2] ~= '1' then
  epoch = ARGV[1]
  redis.call('HSET', meta, 'e', epoch, 'l', life)
end
local actual = now -- for what Redis expires itself
if now < stamp then now = stamp end -- times never fall from one entry to the next
