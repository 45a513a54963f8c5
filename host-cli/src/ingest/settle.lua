#!lua
-- Settles a batch of entries: each is acknowledged, and only what this acknowledged gets its intent or its dead letter.
-- The first line makes the server refuse the whole script, not one command inside it, when memory is full, the disk
-- fails, or it is a replica.
-- KEYS  features, intents, dead letters, owner
-- ARGV  token, group, consumer, longest stream of intents (0: never trimmed),
--       "(" and the id of the first entry ("+": the batch is empty), term of the lease in ms (0: it ends, "": it stays),
--       entries of the stream accounted for ("": unknown),
--       "(" and the id of the last entry settled before, if the batch lies beyond it ("": it does not),
--       then for each entry, oldest first: id, kind, number of arguments, arguments
--       kind "intent": fields and values; "dead": why; "poison": why; "none": nothing
-- Gives the number of entries settled; of an empty batch the id of the oldest entry pending, or "".
local call, group, first = redis.call, ARGV[2], ARGV[9]
if call('HGET', KEYS[4], 'token') ~= ARGV[1] then
  return redis.error_reply('FENCED ' .. (call('HGET', KEYS[4], 'consumer') or ''))
end
-- Raises NOGROUP where XACK would just give 0.
local older = call('XPENDING', KEYS[1], group, '-', ARGV[5], 1)[1]
if older and first then
  -- It was delivered elsewhere: what was decided here was decided without it. Where nothing of the batch is pending any
  -- more it is settled, and nothing comes of it.
  local at = 9
  while at < #ARGV do
    if #call('XPENDING', KEYS[1], group, ARGV[at], ARGV[at], 1) > 0 then
      return redis.error_reply('STRAY ' .. older[1])
    end
    at = at + 3 + ARGV[at + 2]
  end
end
if first and ARGV[8] ~= '' then
  -- The group was set forward: what was decided here was decided without what it passed over.
  local skipped = call('XRANGE', KEYS[1], ARGV[8], ARGV[5], 'COUNT', 1)[1]
  if skipped then
    return redis.error_reply('SKIPPED ' .. skipped[1])
  end
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
      -- Nothing came of it, so it is pending again; unless it was removed from the stream, and nobody can tell of it.
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
if last and ARGV[8] ~= '' then
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
