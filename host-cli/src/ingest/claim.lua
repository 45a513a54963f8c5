#!lua
-- Claims pending entries for the holder of the lease: all of them, or none where one was removed from the stream. XCLAIM
-- would take that one off the pending list, and nobody could tell of it any more.
-- KEYS  features, owner
-- ARGV  token, group, consumer, deliveries that count from now on, then the ids
-- Gives the id of one that was removed, or "".
if redis.call('HGET', KEYS[2], 'token') ~= ARGV[1] then
  return redis.error_reply('FENCED ' .. (redis.call('HGET', KEYS[2], 'consumer') or ''))
end
local claim = {'XCLAIM', KEYS[1], ARGV[2], ARGV[3], 0}
for at = 5, #ARGV do
  if #redis.call('XRANGE', KEYS[1], ARGV[at], ARGV[at]) == 0 then
    return ARGV[at]
  end
  claim[#claim + 1] = ARGV[at]
end
claim[#claim + 1] = 'RETRYCOUNT'
claim[#claim + 1] = ARGV[4]
claim[#claim + 1] = 'JUSTID'
redis.call(unpack(claim))
return ''
