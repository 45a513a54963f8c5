#!lua
-- Settles a batch of entries: each gets its intent or its dead letter, and is acknowledged.
-- The first line makes the server refuse the whole script, not one command inside it, when memory is full, the disk
-- fails, or it is a replica.
-- KEYS  features, intents, dead letters, owner
-- ARGV  token, group, longest stream of intents (0: never trimmed),
--       term of the lease in ms (0: it ends, "": it stays), entries of the stream accounted for ("": unknown),
--       "(" and the id of the last entry settled before, if the batch lies beyond it ("": it does not),
--       then for each entry, oldest first: id, kind, number of arguments, arguments
--       kind "intent": fields and values; "dead": why; "poison": why; "none": nothing
-- Gives the number of entries settled; of an empty batch the id of the oldest entry pending, or "".
local call, group = redis.call, ARGV[2]
local token, intents_from, dead_from = unpack(call('HMGET', KEYS[4], 'token', 'intents_from', 'dead_from'))
if token ~= ARGV[1] then
  return redis.error_reply('FENCED ' .. (call('HGET', KEYS[4], 'consumer') or ''))
end

local ids, at, next = {}, {}, 7
while next < #ARGV do
  ids[#ids + 1], at[#at + 1] = ARGV[next], next
  next = next + 3 + ARGV[next + 2]
end
-- Raises NOGROUP where XACK would just give 0.
local pending = call('XPENDING', KEYS[1], group, '-', ids[#ids] or '+', math.max(#ids, 1))
-- Up to the last of the batch, the batch is what is pending. An older entry was delivered elsewhere: what was decided here
-- was decided without it. One that is not pending was taken off the list: its outcome would be another's, or nobody's.
for place, id in ipairs(ids) do
  local found = pending[place] and pending[place][1]
  if found ~= id then
    for _, other in ipairs(ids) do
      if other == found then found = nil end
    end
    return redis.error_reply(found and 'STRAY ' .. found or 'GONE ' .. id)
  end
end
if #ids > 0 and ARGV[6] ~= '' then
  -- The group was set forward: what was decided here was decided without what it passed over.
  local skipped = call('XRANGE', KEYS[1], ARGV[6], '(' .. ids[1], 'COUNT', 1)[1]
  if skipped then
    return redis.error_reply('SKIPPED ' .. skipped[1])
  end
end

local settled, state, failure = 0, {}, nil
local function keep(name, value)
  state[#state + 1], state[#state + 2] = name, value
end
for place, id in ipairs(ids) do
  local kind = ARGV[at[place] + 1]
  local from, to = at[place] + 3, at[place] + 2 + ARGV[at[place] + 2]
  local added
  if kind == 'intent' then
    if ARGV[3] == '0' then
      added = redis.pcall('XADD', KEYS[2], '*', unpack(ARGV, from, to))
    else
      added = redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', unpack(ARGV, from, to))
    end
  elseif kind ~= 'none' then
    local entry = call('XRANGE', KEYS[1], id, id)[1]
    local fields = entry and entry[2] or {}
    -- unpack takes a few thousand values at most.
    added = redis.pcall('XADD', KEYS[3], '*', 'source_id', id, 'group', group, 'reason', ARGV[from],
      unpack(fields, 1, math.min(#fields, 2000)))
  end
  if type(added) == 'table' and added.err then
    -- Nothing came of it, so it stays pending.
    failure = added
    break
  end
  -- As long as the first of each is there, none was removed with its stream.
  if kind == 'intent' and not intents_from then
    intents_from = added
    keep('intents_from', added)
  elseif kind ~= 'intent' and kind ~= 'none' and not dead_from then
    dead_from = added
    keep('dead_from', added)
  end
  if kind == 'poison' then
    keep('poison:' .. id, '1')
  end
  call('XACK', KEYS[1], group, id)
  settled = place
end

-- Redis writes whole numbers below 10^17 with all their digits.
if ARGV[4] ~= '' then
  local time = call('TIME')
  keep('until', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4])
end
if settled > 0 and ARGV[5] ~= '' then
  keep('seen', ARGV[5] + settled)
end
if settled > 0 and ARGV[6] ~= '' then
  keep('last', ids[settled])
end
if #state > 0 then
  call('HSET', KEYS[4], unpack(state))
end
if failure then
  return failure
end
return #ids > 0 and settled or pending[1] and pending[1][1] or ''
