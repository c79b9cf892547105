-- Ends what a request holds and counts what it took, once: the same as Book::settle.
--
-- KEYS: as for a decision.
-- ARGV: time, request ('' may be done twice), ms to remember it, number of buckets, and for each: 1 or 2, field, limit,
-- window, tokens to put back; number of seats; number of budgets, and for each: slot, held, cost, ms to keep.
-- Answer: 1, or 0 if it was settled before.

local request, remember = text(), number()
if request ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - remember)
  if redis.call('ZADD', KEYS[3], 'NX', now, request) == 0 then
    return 0
  end
  redis.call('PEXPIRE', KEYS[3], remember)
end
for _ = 1, number() do
  local side, field, limit, window, tokens = number(), text(), number(), number(), number()
  local level, carry, at = load(KEYS[side], field, limit, window)
  level = math.max(level + tokens, DEEPEST)
  if level >= limit then
    level, carry = limit, 0
  end
  store(KEYS[side], field, limit, window, level, carry, at)
end
local key = 4
for _ = 1, number() do
  redis.call('ZREM', KEYS[key], request)
  key = key + 1
end
for _ = 1, number() do
  local budget, holds, slot, amount, cost, kept = KEYS[key], KEYS[key + 1], text(), text(), text(), number()
  key = key + 2
  local held_dollars, held_nanos = held(budget, holds)
  if redis.call('ZREM', holds, request .. ' ' .. amount) == 1 then
    local dollars, nanos = money(amount)
    redis.call('HSET', budget, 'held', written(held_dollars - dollars, held_nanos - nanos))
  end
  local spent = redis.call('HGET', budget, slot)
  if not spent then
    -- A new slot: the time to forget old ones.
    for _, field in ipairs(redis.call('HKEYS', budget)) do
      local old = tonumber(field)
      if old and old < tonumber(slot) - kept then
        redis.call('HDEL', budget, field)
      end
    end
  end
  local dollars, nanos = money(spent)
  local cost_dollars, cost_nanos = money(cost)
  redis.call('HSET', budget, slot, written(dollars + cost_dollars, nanos + cost_nanos))
  redis.call('PEXPIRE', budget, kept)
end
return 1
