-- The presence of a channel.
-- KEYS: members (hash: client -> "LENGTH:USER" and what else is known), order (sorted set: client, by the number of the incarnation
--       that holds it), nodes (sorted set: incarnation, by its number in this channel), users (hash: user -> number of clients)
local members, order, nodes, users = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local function user_of(value)
  local colon = string.find(value, ':', 1, true)
  return string.sub(value, colon + 1, colon + tonumber(string.sub(value, 1, colon - 1)))
end

-- One client fewer of a user. Returns how many are left.
local function less(user)
  local left = redis.call('HINCRBY', users, user, -1)
  if left <= 0 then redis.call('HDEL', users, user) end
  return left
end

-- Forgets the incarnation of a number that has no client any more.
local function tidy(number)
  if redis.call('ZCOUNT', order, number, number) == 0 then redis.call('ZREMRANGEBYSCORE', nodes, number, number) end
end
