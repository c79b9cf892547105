-- Brings what was spent in slots up to at least what the ledger says. From the first slot on, all are known then.
--
-- KEYS: amounts of the budget. ARGV: time, ms to keep, number of slots, and for each: slot, amount. The first is the oldest.

local kept = number()
for place = 1, number() do
  local slot, amount = text(), text()
  if place == 1 then
    local from = redis.call('HGET', KEYS[1], 'from')
    if not from or tonumber(from) > tonumber(slot) then
      redis.call('HSET', KEYS[1], 'from', slot)
    end
  end
  local dollars, nanos = money(amount)
  local there_dollars, there_nanos = money(redis.call('HGET', KEYS[1], slot))
  if is_more(dollars, nanos, there_dollars, there_nanos) then
    redis.call('HSET', KEYS[1], slot, amount)
  end
end
redis.call('PEXPIRE', KEYS[1], kept)
return 1
