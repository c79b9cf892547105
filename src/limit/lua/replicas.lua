-- How many replicas gave a sign of life in the last minute, this one included. KEYS: signs of life. ARGV: time, name, ms
-- that a sign counts ('' takes this replica out).

local name, counts = text(), text()
if counts == '' then
  redis.call('ZREM', KEYS[1], name)
  return redis.call('ZCARD', KEYS[1])
end
redis.call('ZADD', KEYS[1], now, name)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(counts))
redis.call('PEXPIRE', KEYS[1], counts)
return redis.call('ZCARD', KEYS[1])
