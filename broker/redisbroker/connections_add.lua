-- Counts a connection in.
-- ARGV: member; limit; 1 to replace the first; how many incarnations live, of those that the caller was asked about; these; the others
-- Returns 1 if it is counted, and the member whose place it took; 0 if not; or 2 and incarnations of which the caller must find
--       out whether they live.
local member, limit, replace, count = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
if redis.call('ZSCORE', key, member) then return {1} end
if redis.call('ZCARD', key) >= limit then
  local lives = {} -- nil: the caller has not said
  for i = 5, #ARGV do lives[ARGV[i]] = i < 5 + count end
  local unknown = {2}
  for _, other in ipairs(redis.call('ZRANGE', key, 0, -1)) do
    local inc = parts(other)
    if lives[inc] == nil then
      table.insert(unknown, inc)
      lives[inc] = true
    elseif not lives[inc] then
      redis.call('ZREM', key, other)
    end
  end
  if #unknown > 1 then return unknown end
end
local answer = {1}
if redis.call('ZCARD', key) >= limit then
  local first = redis.call('ZRANGE', key, 0, 0)[1]
  if not replace or not first then return {0} end
  redis.call('ZREM', key, first)
  answer = {1, first}
end
append(member)
return answer
