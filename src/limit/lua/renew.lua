-- Puts off the expiry of what a request holds, and holds it again where it is gone: Redis may have been emptied, or away
-- when it was first held. What is settled stays settled.
--
-- KEYS: as for a decision. ARGV: time, request, ms until it expires, number of seats, number of budgets, and for each
-- budget: amount, ms to keep. Answer: 1, or 0 if it is settled.

local request, expires = text(), now + number()
if redis.call('ZSCORE', KEYS[3], request) then
  return 0
end
local key = 4
for _ = 1, number() do
  redis.call('ZADD', KEYS[key], expires, request)
  redis.call('PEXPIREAT', KEYS[key], expires + WEEK)
  key = key + 1
end
for _ = 1, number() do
  local budget, holds, amount, kept = KEYS[key], KEYS[key + 1], text(), number()
  key = key + 2
  local held_dollars, held_nanos = held(budget, holds)
  if redis.call('ZADD', holds, expires, request .. ' ' .. amount) == 1 then
    local dollars, nanos = money(amount)
    redis.call('HSET', budget, 'held', written(held_dollars + dollars, held_nanos + nanos))
  end
  redis.call('PEXPIREAT', holds, expires + WEEK)
  redis.call('PEXPIRE', budget, kept)
end
return 1
