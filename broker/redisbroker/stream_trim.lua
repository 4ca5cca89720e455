-- Lets go of what is too old; goes where a script has found that there may be something. Expiry rises from entry to entry, so the
-- first one to keep is found by halving.

-- ageOf returns the age at which the publication with this offset expires.
local function ageOf(offset)
  for upto, old in string.gmatch(ages, '(%d+):(%d+),') do
    if offset <= tonumber(upto) then return tonumber(old) end
  end
  return age
end

-- expiry returns when the publication with this offset expires.
local function expiry(offset)
  local entry = redis.call('XRANGE', stream, offset, offset, 'COUNT', 1)[1]
  if not entry then return 0 end
  return tonumber(string.match(entry[1], '-(%d+)$')) + ageOf(offset)
end

local old, keep = top - redis.call('XLEN', stream) + 1, top + 1
if old == keep then
  expires, ages = 0, ''
else
  expires = expiry(old)
  if expires <= now then
    while keep - old > 1 do
      local middle = math.floor((old + keep) / 2)
      local at = expiry(middle)
      if at <= now then
        old = middle
      else
        keep, expires = middle, at
      end
    end
    if keep > top then
      redis.call('XTRIM', stream, 'MAXLEN', 0)
      expires = 0
    else
      redis.call('XTRIM', stream, 'MINID', keep)
    end
    ages = string.gsub(ages, '(%d+):%d+,', function(upto)
      if tonumber(upto) < keep then return '' end
    end)
  end
end
if expires ~= (tonumber(known[7]) or 0) or ages ~= known[6] then redis.call('HSET', meta, 'x', expires, 'g', ages) end
