#!lua
-- Takes the lease of a feature stream if it is free, over, or already held by the same process. A token is a process and,
-- after the last slash, one of its shifts: a late call of an older shift takes nothing from a later one.
-- Workers that share the shards of a stream tell here that they live, and hear how many do.
-- KEYS  owner, workers
-- ARGV  token, consumer, term in ms, "1" if the same consumer's lease may be taken over before it is over,
--       number of shards ("": the stream is no shard), "1" to take it if it is free,
--       "1" if this worker has room for it
-- Gives {"1", "1" if another process held it before, last, seen, workers, "1" if another worker has room for it},
--       {"0", the owner's name, ms left, workers}, or {"free", workers}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local token, consumer, over, term, last, seen, shards =
  unpack(redis.call('HMGET', KEYS[1], 'token', 'consumer', 'until', 'term', 'last', 'seen', 'shards'))
if shards and shards ~= ARGV[5] then
  return redis.error_reply('SHARDS ' .. shards)
end

local process, shift = string.match(ARGV[1], '^(.*)/(%d+)$')
local held_by, held_in = string.match(token or '', '^(.*)/(%d+)$')
local ours = held_by == process and tonumber(held_in) <= tonumber(shift)

local workers, wanted = 1, '0'
if ARGV[5] ~= '' then
  local heard = redis.call('HGETALL', KEYS[2])
  for at = 1, #heard, 2 do
    local known, room = string.match(heard[at + 1], '^(%d+) (%d)$')
    if heard[at] ~= ARGV[2] then
      if not known or tonumber(known) <= now then
        redis.call('HDEL', KEYS[2], heard[at])
      else
        workers = workers + 1
        if room == '1' then wanted = '1' end
      end
    end
  end
  redis.call('HSET', KEYS[2], ARGV[2], string.format('%.0f %s', now + ARGV[3], ARGV[7]))
end

local left = (tonumber(over) or 0) - now
if term and left > tonumber(term) then
  -- The server's clock went back.
  left = tonumber(term)
  redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + left))
end
local succeeds = ARGV[4] == '1' and consumer == ARGV[2] and held_by ~= process
if token and not ours and left > 0 and not succeeds then
  return {'0', consumer or '', tostring(left), tostring(workers)}
end
if ARGV[6] ~= '1' and not (ours and left > 0) then
  return {'free', tostring(workers)}
end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'consumer', ARGV[2], 'until', string.format('%.0f', now + ARGV[3]),
  'term', ARGV[3])
if ARGV[5] ~= '' and not shards then
  redis.call('HSET', KEYS[1], 'shards', ARGV[5])
end
return {'1', token and held_by ~= process and '1' or '0', last or '', seen or '', tostring(workers), wanted}
