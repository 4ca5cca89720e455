-- Forgets the publications of a stream. KEYS as in stream.lua.
redis.call('UNLINK', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'x', 0, 's', 0, 'g', '') end
return 0
