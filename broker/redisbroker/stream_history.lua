-- Returns epoch, top and entries. ARGV: 4 how many entries at most, negative for all; 5 "1" for the newest first; 6 and 7 the first
-- and the last offset wanted.

--- stream.lua

if actual >= renew then
  local least = math.max(tonumber(ARGV[3]), age or 0)
  redis.call('PEXPIRE', meta, least + least)
  redis.call('HSET', meta, 'k', actual + least)
end
local limit = tonumber(ARGV[4])
if limit == 0 or top == 0 then return {epoch, top, {}} end
if now >= expires then
--- stream_trim.lua
end
local command, first, last = 'XRANGE', ARGV[6], ARGV[7]
if ARGV[5] == '1' then command, first, last = 'XREVRANGE', last, first end
if limit < 0 then return {epoch, top, redis.call(command, stream, first, last)} end
return {epoch, top, redis.call(command, stream, first, last, 'COUNT', limit)}
