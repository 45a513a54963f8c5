#!lua
-- Does one command for the holder of the lease, and for nobody else.
-- KEYS  features, owner
-- ARGV  token, then the command
if redis.call('HGET', KEYS[2], 'token') ~= ARGV[1] then
  return redis.error_reply('FENCED ' .. (redis.call('HGET', KEYS[2], 'consumer') or ''))
end
return redis.call(unpack(ARGV, 2))
