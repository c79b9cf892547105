-- How many replicas gave a sign of life in the last minute, this one included, and how many are behind: have requests counted
-- whose rows the ledger lacks. KEYS: signs of life, those that are behind. ARGV: time, name, ms that a sign counts ('' takes
-- this replica out), 1 if it is behind, ms that this is remembered.

local name, counts, behind, remember = text(), text(), text(), number()
if behind == '1' then
  redis.call('ZADD', KEYS[2], now, name)
  redis.call('PEXPIRE', KEYS[2], remember)
else
  redis.call('ZREM', KEYS[2], name)
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - remember)
if counts == '' then
  redis.call('ZREM', KEYS[1], name)
else
  redis.call('ZADD', KEYS[1], now, name)
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(counts))
  redis.call('PEXPIRE', KEYS[1], counts)
end
return { redis.call('ZCARD', KEYS[1]), redis.call('ZCARD', KEYS[2]) }
