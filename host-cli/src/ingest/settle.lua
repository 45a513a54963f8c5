#!lua
-- Settles a batch of entries: each is acknowledged, and only what this acknowledged gets its intent or its dead letter.
-- The first line makes the server refuse the whole script, not one command inside it, when memory is full, the disk
-- fails, or it is a replica.
-- KEYS  features, intents, dead letters, owner
-- ARGV  token, term in ms (0: the lease ends), group, consumer, longest stream of intents (0: never trimmed),
--       then for each entry, oldest first: id, kind, number of arguments, arguments
--       kind "intent": fields and values; "dead": why; "poison": why; "none": nothing
--       last: "1" if the entries lie beyond everything settled before
-- Gives {entries settled, id of the oldest entry still pending before, or ""}.
local owner = redis.call('HMGET', KEYS[4], 'token', 'consumer')
if owner[1] ~= ARGV[1] then
  return redis.error_reply('FENCED ' .. (owner[2] or ''))
end
local group = ARGV[3]
-- Raises NOGROUP where XACK would just give 0.
local oldest = redis.call('XPENDING', KEYS[1], group, '-', '+', 1)[1]
oldest = oldest and oldest[1] or ''
local first = ARGV[6]
if #ARGV > 6 and oldest ~= first and #redis.call('XPENDING', KEYS[1], group, first, first, 1) > 0 then
  -- An older entry was delivered elsewhere: what was decided here was decided without it.
  return redis.error_reply('STRAY ' .. oldest)
end

local settled, last, failure = 0, nil, nil
local at = 6
while at < #ARGV and not failure do
  local id, kind, n = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local from, to = at + 3, at + 2 + n
  at = to + 1
  if redis.call('XACK', KEYS[1], group, id) == 1 then
    local added
    if kind == 'intent' then
      if ARGV[5] == '0' then
        added = redis.pcall('XADD', KEYS[2], '*', unpack(ARGV, from, to))
      else
        added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', unpack(ARGV, from, to))
      end
    elseif kind ~= 'none' then
      local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
      local fields = entry and entry[2] or {}
      -- unpack takes a few thousand values at most.
      added = redis.pcall('XADD', KEYS[3], '*', 'source_id', id, 'group', group, 'reason', ARGV[from],
        unpack(fields, 1, math.min(#fields, 2000)))
      if kind == 'poison' then
        redis.call('HSET', KEYS[4], 'poison:' .. id, '1')
      end
    end
    if type(added) == 'table' and added.err then
      -- Nothing came of it, so it is pending again.
      redis.call('XCLAIM', KEYS[1], group, ARGV[4], 0, id, 'FORCE', 'JUSTID')
      failure = added
    else
      settled, last = settled + 1, id
    end
  end
end

local time = redis.call('TIME')
local over = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
redis.call('HSET', KEYS[4], 'until', string.format('%.0f', over))
if settled > 0 then
  redis.call('HINCRBY', KEYS[4], 'seen', settled)
  if ARGV[#ARGV] == '1' then
    redis.call('HSET', KEYS[4], 'last', last)
  end
end
if failure then
  return failure
end
return {settled, oldest}
