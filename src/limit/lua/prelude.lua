-- What all scripts begin with. All numbers stay below 2^53, where they are exact; money may not, and is added up as
-- dollars and nano-dollars apart. The first argument is the time in ms; '' is the clock here.

local at_arg = 0
local function text()
  at_arg = at_arg + 1
  return ARGV[at_arg]
end
local function number()
  return tonumber(text())
end

local now = text()
if now == '' then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
else
  now = tonumber(now)
end

-- Buckets: Bucket::refilled.

local DEEPEST = -1000000000000000
local WEEK = 604800000

local function load(key, field, limit, window)
  local kept = redis.call('HGET', key, field)
  if not kept then
    return limit, 0, now
  end
  local level, carry, at = string.match(kept, '^(%-?%d+) (%d+) (%d+)$')
  level, carry, at = tonumber(level), tonumber(carry), tonumber(at)
  local passed = now - at
  if passed < 0 then
    if -passed > window then
      at = now
    end
  else
    at = now
    local windows = math.floor(passed / window)
    local rest = passed - windows * window
    level = level + windows * limit
    if level < limit then
      local quotient = math.floor(limit / window)
      local parts = (limit - quotient * window) * rest + carry
      local whole = math.floor(parts / window)
      level = level + quotient * rest + whole
      carry = parts - whole * window
    end
  end
  if level >= limit then
    return limit, 0, at
  end
  return level, carry, at
end

local function store(key, field, limit, window, level, carry, at)
  redis.call('HSET', key, field, string.format('%.0f %.0f %.0f', level, carry, at))
  -- It is forgotten when it would be full; a whole week at least, and a year at most.
  local lasts = math.ceil((limit - level) / limit) * window
  redis.call('PEXPIRE', key, math.min(math.max(lasts, WEEK), 31536000000))
end

-- Money: dollars and nano-dollars, so that sums beyond 2^53 nano-dollars are exact.

local BILLION = 1000000000

local function money(amount)
  if not amount then
    return 0, 0
  end
  local sign = 1
  if string.sub(amount, 1, 1) == '-' then
    sign, amount = -1, string.sub(amount, 2)
  end
  local dollars = 0
  if #amount > 9 then
    dollars = tonumber(string.sub(amount, 1, -10))
  end
  return sign * dollars, sign * tonumber(string.sub(amount, -9))
end

local function settle_up(dollars, nanos)
  local more = math.floor(nanos / BILLION)
  return dollars + more, nanos - more * BILLION
end

local function written(dollars, nanos)
  dollars, nanos = settle_up(dollars, nanos)
  local sign = ''
  if dollars < 0 then
    sign = '-'
    dollars, nanos = settle_up(-dollars, -nanos)
  end
  if dollars == 0 then
    return sign .. string.format('%.0f', nanos)
  end
  return sign .. string.format('%.0f%09.0f', dollars, nanos)
end

local function is_more(dollars, nanos, than_dollars, than_nanos)
  dollars, nanos = settle_up(dollars, nanos)
  than_dollars, than_nanos = settle_up(than_dollars, than_nanos)
  return dollars > than_dollars or (dollars == than_dollars and nanos > than_nanos)
end

-- What is held of a budget, after what has expired is gone. The set of holds is the truth; its sum is kept beside it.
local function held(key, holds)
  local sum = redis.call('HGET', key, 'held')
  local members, dollars, nanos, sign = nil, 0, 0, 1
  local gone = redis.call('ZRANGEBYSCORE', holds, '-inf', now)
  if #gone > 0 then
    redis.call('ZREMRANGEBYSCORE', holds, '-inf', now)
  end
  if sum and redis.call('ZCARD', holds) > 0 then
    dollars, nanos = money(sum)
    members, sign = gone, -1
  else
    members = redis.call('ZRANGE', holds, 0, -1)
  end
  for _, member in ipairs(members) do
    local more_dollars, more_nanos = money(string.match(member, ' (.*)$'))
    dollars, nanos = settle_up(dollars + sign * more_dollars, nanos + sign * more_nanos)
  end
  if sum and #gone > 0 then
    redis.call('HSET', key, 'held', written(dollars, nanos))
  end
  return dollars, nanos
end
