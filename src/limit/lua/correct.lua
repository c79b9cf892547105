-- Sets what was spent in a slot if it is as it was seen. KEYS: amounts of the budget. ARGV: time, slot, seen, amount.

local slot, seen, amount = text(), text(), text()
local seen_dollars, seen_nanos = money(seen)
local dollars, nanos = money(redis.call('HGET', KEYS[1], slot))
if is_more(dollars, nanos, seen_dollars, seen_nanos) or is_more(seen_dollars, seen_nanos, dollars, nanos) then
  return 0
end
redis.call('HSET', KEYS[1], slot, amount)
return 1
