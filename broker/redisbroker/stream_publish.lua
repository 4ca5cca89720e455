-- Stores, numbers and publishes; returns "OFFSET EPOCH", of the first publication if its idempotency key is known already.
--
-- KEYS[3], if given, is where the idempotency key is remembered. ARGV: 4 the publication, 5 the channel of subscribers,
-- 6 the command that publishes there, 7 and 8 the retention, 9 and 10 version and its epoch, 11 how long an idempotency key is
-- remembered.
if KEYS[3] then
  local first = redis.call('GET', KEYS[3])
  if first then return first end
end

--- stream.lua

local size, ttl, version, versionEpoch = ARGV[7], tonumber(ARGV[8]), ARGV[9], ARGV[10]
local least = math.max(tonumber(ARGV[3]), ttl)
local stale = false
if version ~= '0' and known[10] and (versionEpoch == '' or versionEpoch == known[11]) then
  -- They need not fit into a number of Lua.
  stale = #version < #known[10] or #version == #known[10] and version <= known[10]
end
if actual >= renew or not age or age < ttl then
  redis.call('PEXPIRE', meta, least + least)
  redis.call('HSET', meta, 'k', actual + least)
end
if stale then
  local at = top .. ' ' .. epoch
  if KEYS[3] then redis.call('SET', KEYS[3], at, 'PX', ARGV[11]) end
  return at
end

if age ~= ttl then
  if age and age < ttl then -- what is there keeps its age
    local oldest = top - redis.call('XLEN', stream) + 1
    ages = string.gsub(ages, '(%d+):%d+,', function(upto)
      if tonumber(upto) < oldest then return '' end
    end) .. top .. ':' .. age .. ','
  else -- what is there expires sooner
    ages = string.gsub(ages, '(%d+:)(%d+),', function(_, old)
      if tonumber(old) >= ttl then return '' end
    end)
    expires = 0
  end
  age, known[6] = ttl, ages
  redis.call('HSET', meta, 't', age, 'g', ages)
end

top, stamp = top + 1, now
redis.call('XADD', stream, 'MAXLEN', size, top .. '-' .. stamp, 'd', ARGV[4])
if version == '0' then
  redis.call('HSET', meta, 'o', top, 'c', stamp)
else
  redis.call('HSET', meta, 'o', top, 'c', stamp, 'v', version, 'w', versionEpoch)
end
if now >= expires + ttl / 16 then -- not for each entry; readers look closely
--- stream_trim.lua
end
if kept < actual + ttl then
  redis.call('PEXPIRE', stream, 2 * ttl + 60000)
  redis.call('HSET', meta, 's', actual + 2 * ttl + 60000)
end
local at = top .. ' ' .. epoch
if KEYS[3] then redis.call('SET', KEYS[3], at, 'PX', ARGV[11]) end -- before what the user's rights may forbid: it is stored
redis.call(ARGV[6], ARGV[5], 'p' .. at .. ' ' .. ARGV[4])
return at
