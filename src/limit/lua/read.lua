-- What a budget's counters say. KEYS: amounts and holds of the budget. ARGV: time, slots.
-- Answer: from when on all is known ('': nothing is), what is held, what was spent in each slot.

local slots = {}
for place = 2, #ARGV do
  slots[#slots + 1] = ARGV[place]
end
local dollars, nanos = held(KEYS[1], KEYS[2])
local values = redis.call('HMGET', KEYS[1], 'from', unpack(slots))
local answer = { values[1] or '', written(dollars, nanos) }
for place = 1, #slots do
  answer[#answer + 1] = values[place + 1] or '0'
end
return answer
