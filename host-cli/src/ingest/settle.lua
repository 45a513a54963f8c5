#!lua
-- Settles a batch of entries: each is acknowledged, and only what this acknowledged gets its intent or its dead letter.
-- The first line makes the server refuse the whole script, not one command inside it, when memory is full, the disk
-- fails, or it is a replica.
-- KEYS  features, intents, dead letters, owner
-- ARGV  token, group, consumer, longest stream of intents (0: never trimmed),
--       "(" and the id of the first entry ("+": the batch is empty), term of the lease in ms (0: it ends, "": it stays),
--       entries of the stream accounted for ("": unknown), "1" if the batch lies beyond everything settled before,
--       then for each entry, oldest first: id, kind, number of arguments, arguments
--       kind "intent": fields and values; "dead": why; "poison": why; "none": nothing
-- Gives the number of entries settled; of an empty batch the id of the oldest entry pending, or "".
local call, group, first = redis.call, ARGV[2], ARGV[9]
if call('HGET', KEYS[4], 'token') ~= ARGV[1] then
  return redis.error_reply('FENCED ' .. (call('HGET', KEYS[4], 'consumer') or ''))
end
-- Raises NOGROUP where XACK would just give 0.
local older = call('XPENDING', KEYS[1], group, '-', ARGV[5], 1)[1]
if older and first and #call('XPENDING', KEYS[1], group, first, first, 1) > 0 then
  -- It was delivered elsewhere: what was decided here was decided without it.
  return redis.error_reply('STRAY ' .. older[1])
end

local settled, last, failure = 0, nil, nil
local at = 9
while at < #ARGV and not failure do
  local id, kind = ARGV[at], ARGV[at + 1]
  local from, to = at + 3, at + 2 + ARGV[at + 2]
  at = to + 1
  if call('XACK', KEYS[1], group, id) == 1 then
    local added
    if kind == 'intent' then
      if ARGV[4] == '0' then
        added = redis.pcall('XADD', KEYS[2], '*', unpack(ARGV, from, to))
      else
        added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', unpack(ARGV, from, to))
      end
    elseif kind ~= 'none' then
      local entry = call('XRANGE', KEYS[1], id, id)[1]
      local fields = entry and entry[2] or {}
      -- unpack takes a few thousand values at most.
      added = redis.pcall('XADD', KEYS[3], '*', 'source_id', id, 'group', group, 'reason', ARGV[from],
        unpack(fields, 1, math.min(#fields, 2000)))
      if kind == 'poison' then
        call('HSET', KEYS[4], 'poison:' .. id, '1')
      end
    end
    if type(added) == 'table' and added.err then
      -- Nothing came of it, so it is pending again.
      call('XCLAIM', KEYS[1], group, ARGV[3], 0, id, 'FORCE', 'JUSTID')
      failure = added
    else
      settled, last = settled + 1, id
    end
  end
end

-- Redis writes whole numbers below 10^17 with all their digits.
local state = {}
if ARGV[6] ~= '' then
  local time = call('TIME')
  state = {'until', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[6]}
end
if last and ARGV[7] ~= '' then
  state[#state + 1] = 'seen'
  state[#state + 1] = ARGV[7] + settled
end
if last and ARGV[8] == '1' then
  state[#state + 1] = 'last'
  state[#state + 1] = last
end
if #state > 0 then
  call('HSET', KEYS[4], unpack(state))
end
if failure then
  return failure
end
return first and settled or older and older[1] or ''
