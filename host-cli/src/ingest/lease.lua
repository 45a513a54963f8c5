#!lua
-- Takes the lease of a feature stream if it is free, over, or already held by the same token.
-- KEYS  owner
-- ARGV  token, consumer, term in ms, "1" if the same consumer's lease may be taken over before it is over
-- Gives {"1", token before, last, seen} or {"0", the owner's name, ms left}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token, consumer, over, last, seen =
  unpack(redis.call('HMGET', KEYS[1], 'token', 'consumer', 'until', 'last', 'seen'))
local left = (tonumber(over) or 0) - now
if token and token ~= ARGV[1] and left > 0 and not (ARGV[4] == '1' and consumer == ARGV[2]) then
  return {'0', consumer or '', tostring(left)}
end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'consumer', ARGV[2], 'until', string.format('%.0f', now + ARGV[3]))
return {'1', token or '', last or '', seen or ''}
