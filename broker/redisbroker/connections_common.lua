-- The connections of a user.
-- KEYS: a sorted set of "LENGTH:INCARNATION" and client, by the order in which they were counted
local key = KEYS[1]

-- Returns the incarnation, and the node and the client, of a member.
local function parts(member)
  local colon = string.find(member, ':', 1, true)
  local stop = colon + tonumber(string.sub(member, 1, colon - 1))
  return string.sub(member, colon + 1, stop), string.sub(member, colon + 18, stop), string.sub(member, stop + 1)
end

local function append(member)
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')
  redis.call('ZADD', key, tonumber(last[2] or 0) + 1, member)
end
