-- One decision on the counters of one tenant: the same as Book::decide. Nothing is taken unless all has room.
--
-- KEYS: buckets of the tenant, buckets of the key, settled requests, one set of seats for each limit of concurrency, and
-- for each budget its amounts and its holds.
-- ARGV: time in ms ('' is the clock here), request ('' holds nothing), ms until holds expire, number of buckets, and for
-- each: 1 (tenant) or 2 (key), field, limit, window, credit, least, want; number of seats, and for each its limit; number
-- of budgets, and for each: limit ('' refuses nothing), amount, ms to keep, number of slots, slots.
-- Answer: outcome (0 admitted, 1 short, 2 full, 3 unseeded, 4 poor), places from 0, per bucket level, carry and taken, and
-- per budget spent, held and the place of the first slot with something spent (-1: none).

local request = text()
local expires = now + number()

local buckets, short = {}, false
for place = 1, number() do
  local side, field = number(), text()
  local limit, window, credit, least, want = number(), number(), number(), number(), number()
  local level, carry, at = load(KEYS[side], field, limit, window)
  level = math.max(level + credit, DEEPEST)
  if level >= limit then
    level, carry = limit, 0
  end
  if level < least then
    short = true
  end
  buckets[place] = {
    side = side, field = field, limit = limit, window = window, want = want,
    level = level, carry = carry, at = at, taken = 0,
  }
end

-- Seats and budgets.

local outcome, places = 0, {}
local seats, budgets = {}, {}
local next_key = 4
for place = 1, number() do
  seats[place] = { key = KEYS[next_key], limit = number() }
  next_key = next_key + 1
end
for place = 1, number() do
  local budget = { key = KEYS[next_key], holds = KEYS[next_key + 1], limit = text(), amount = text(), kept = number() }
  next_key = next_key + 2
  budget.slots = {}
  for slot = 1, number() do
    budget.slots[slot] = text()
  end
  budgets[place] = budget
end

if short then
  outcome = 1
end
if outcome == 0 then
  for place, seat in ipairs(seats) do
    redis.call('ZREMRANGEBYSCORE', seat.key, '-inf', now)
    local sits = request ~= '' and redis.call('ZSCORE', seat.key, request)
    if not sits and redis.call('ZCARD', seat.key) >= seat.limit then
      outcome, places = 2, { place - 1 }
      break
    end
  end
end
if outcome == 0 then
  for place, budget in ipairs(budgets) do
    budget.held_dollars, budget.held_nanos = held(budget.key, budget.holds)
    local values = redis.call('HMGET', budget.key, 'from', unpack(budget.slots))
    budget.spent_dollars, budget.spent_nanos, budget.first = 0, 0, -1
    if not values[1] or tonumber(values[1]) > tonumber(budget.slots[1]) then
      outcome = 3
      places[#places + 1] = place - 1
    else
      for slot = 1, #budget.slots do
        local spent = values[slot + 1]
        if spent then
          local more_dollars, more_nanos = money(spent)
          budget.spent_dollars, budget.spent_nanos =
            settle_up(budget.spent_dollars + more_dollars, budget.spent_nanos + more_nanos)
          if budget.first < 0 and (more_dollars > 0 or more_nanos > 0) then
            budget.first = slot - 1
          end
        end
      end
    end
    budget.mine = request ~= '' and redis.call('ZSCORE', budget.holds, request .. ' ' .. budget.amount)
  end
end
if outcome == 0 then
  for place, budget in ipairs(budgets) do
    if budget.limit ~= '' then
      local dollars, nanos = money(budget.amount)
      if budget.mine then
        dollars, nanos = 0, 0
      end
      local limit_dollars, limit_nanos = money(budget.limit)
      dollars = dollars + budget.spent_dollars + budget.held_dollars
      nanos = nanos + budget.spent_nanos + budget.held_nanos
      if is_more(dollars, nanos, limit_dollars, limit_nanos) then
        outcome, places = 4, { place - 1 }
        break
      end
    end
  end
end

-- Take it.

if outcome == 0 then
  for _, bucket in ipairs(buckets) do
    bucket.taken = math.max(math.min(bucket.want, bucket.level), 0)
    bucket.level = bucket.level - bucket.taken
  end
  if request ~= '' and not redis.call('ZSCORE', KEYS[3], request) then
    for _, seat in ipairs(seats) do
      redis.call('ZADD', seat.key, expires, request)
      redis.call('PEXPIREAT', seat.key, expires + WEEK)
    end
    for _, budget in ipairs(budgets) do
      redis.call('ZADD', budget.holds, expires, request .. ' ' .. budget.amount)
      redis.call('PEXPIREAT', budget.holds, expires + WEEK)
      if not budget.mine then
        local dollars, nanos = money(budget.amount)
        redis.call('HSET', budget.key, 'held', written(budget.held_dollars + dollars, budget.held_nanos + nanos))
      end
      redis.call('PEXPIRE', budget.key, budget.kept)
    end
  end
end
local levels = {}
for _, bucket in ipairs(buckets) do
  store(KEYS[bucket.side], bucket.field, bucket.limit, bucket.window, bucket.level, bucket.carry, bucket.at)
  levels[#levels + 1] = bucket.level
  levels[#levels + 1] = bucket.carry
  levels[#levels + 1] = bucket.taken
end
local sums = {}
for place, budget in ipairs(budgets) do
  if budget.first then
    sums[#sums + 1] = written(budget.spent_dollars, budget.spent_nanos)
    sums[#sums + 1] = written(budget.held_dollars, budget.held_nanos)
    sums[#sums + 1] = string.format('%.0f', budget.first)
  end
end
return { outcome, places, levels, sums }
