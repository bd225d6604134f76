-- Merge and join: what several places have, moved into one; and a group, raised to what its orgs have. Beside it:
-- quota/merge.py and quota/join.py.
--
-- KEYS: the subjects', `into` first.
-- ARGV: a body ends with the place of `into` as notes and holds are to name it, see `place_bytes` in lines.py.
-- Why: what is moved lies in one slot here; where it does not, see parcel.lua.

-- A balance's holds as a map that this command may change.
local function copied(subject, name, holds)
  local by = {}
  for id, hold in pairs(holds and all_of(subject, name, holds) or by) do
    by[id] = hold
  end
  return by
end

-- What a merge takes out of a balance: a standing as of now and the holds that move; nil if there is nothing to move.
-- And the balance that stays, with notes of where they are; and of the sketch that lies there what counts.
local function parted(subject, name, own, balance, to, sketch)
  local used, since, ends, parts, holds = brought(subject, name, own, balance, now)
  local left = own:put(used, since, ends, parts, 0, nil, now)
  local found, moving, notes, any = copied(subject, name, holds), {}, {}, left.used > 0
  for id, hold in pairs(found) do
    if hold.also or not hold.to then
      -- Where it is held also is not known there any more: the copy ends with its lease.
      moving[id] = { amount = hold.amount, ends = hold.ends, step = hold.step, lapsed = hold.lapsed }
      any = true
    end
    notes[id] = note(hold, to)
  end
  if not any then
    return nil
  end
  local stays = { verb = own, used = 0, since = now, ends = now, holds = summed(notes, now), sketch = sketches.none }
  return left, moving, stays, sketches.counted(sketch, balance, own, used, since)
end

-- Usage that was added up of two sketches, less what both had counted; and their union.
local function once(used, seen, also)
  local both = sketches.united(seen, also)
  local twice = sketches.count(seen) + sketches.count(also) - sketches.count(both)
  return max(0, used - twice), both
end

-- Usage that adds up, and a sketch that unites: what both had counted is taken off again once.
local function joined(verb, used, since, ends, parts, seen, left, also)
  local theirs, their_since, their_ends, their_parts = verb:bring(left, now)
  used, since, ends, parts = verb:join(used, since, ends, parts, theirs, their_since, their_ends, their_parts)
  if also ~= sketches.none and theirs > 0 and (verb.kind == QUOTA or verb.kind == TOTAL) then
    used, seen = once(used, seen, also)
  end
  return used, since, ends, parts, seen
end

local function merge()
  local to = sub(body, pos)
  local into, called, verb = subject_of[1], name_at[1], verb_at[1]
  local before = balance_of(into, called)
  local used, since, ends, parts, union = brought(into, called, verb, before, now)
  local by, after, moved = copied(into, called, union), {}, false
  local seen = sketches.counted(sketches.at(into, called), before, verb, used, since)
  for n = 2, count do
    local subject, name = subject_of[n], name_at[n]
    local balance, named_twice = balance_of(subject, name), subject == into and name == called
    for one = 2, n - 1 do
      named_twice = named_twice or (after[one] and subject_of[one] == subject and name_at[one] == name)
    end
    if balance and not named_twice then
      local left, moving, stays, also = parted(subject, name, verb_at[n], balance, to, sketches.at(subject, name))
      if left then
        used, since, ends, parts, seen = joined(verb, used, since, ends, parts, seen, left, also)
        for id, hold in pairs(moving) do
          by[id] = united(by[id], hold)
        end
        after[n], moved = stays, true
      end
    end
  end
  if moved then
    after[1] = verb:put(used, since, ends, parts, 0, summed(by, now), now)
    after[1].sketch = seen
  end
  settled(after, nil, nothing)
end

-- A source's hold as `into` is to know it: without a place if it is to be held there, with one if it was told so
-- already, or settled since; nil for a note of elsewhere.
local function known_hold(hold, to)
  if not hold.to or hold.to == to then
    return hold
  elseif hold.also then
    return { amount = hold.amount, ends = hold.ends, step = hold.step, lapsed = hold.lapsed }
  end
end

-- Whether a source counts beside an `into` that is as good as untouched (`fresh`), or whose window began at `begun`.
local function counts(balance, verb, used, since, begun, fresh)
  if used == 0 or fresh then
    return true
  end
  local other = sketches.other_window(balance, verb)
  if verb.kind == QUOTA and balance.verb.kind == QUOTA then
    return other or since >= begun
  end
  return not other
end

-- What sources are together, by the verb of `into` and beside what it is; nothing so far.
local function gathering(to)
  local into, name, verb = subject_of[1], name_at[1], verb_at[1]
  local before = balance_of(into, name)
  local used, since = brought(into, name, verb, before, now)
  local sum = { to = to, fresh = used == 0, begun = since, seen = sketches.none, known = {} }
  sum.used, sum.since, sum.ends, sum.parts = verb:bring(nil, now)
  return sum
end

-- One source more; its standing and its holds if it counts.
local function gathered(sum, subject, name, balance, sketch_there)
  local verb = verb_at[1]
  local used, since, ends, parts, holds = brought(subject, name, verb, balance, now)
  if not counts(balance, verb, used, since, sum.begun, sum.fresh) then
    return nil
  end
  if used > 0 then
    sum.used, sum.since, sum.ends, sum.parts =
      verb:join(sum.used, sum.since, sum.ends, sum.parts, used, since, ends, parts)
    local also = sketches.counted(sketch_there, balance, verb, used, since)
    if also ~= sketches.none then
      sum.used, sum.seen = once(sum.used, sum.seen, also)
    end
  end
  for id, hold in pairs(holds and all_of(subject, name, holds) or {}) do
    sum.known[id] = sum.known[id] or known_hold(hold, sum.to)
  end
  return { used = used, since = since, ends = ends, parts = parts, holds = holds }
end

-- The sum without what `into` is still going to be told by those who used it.
local function untold(sum, verb, by)
  local used, since, ends, parts = sum.used, sum.since, sum.ends, sum.parts
  for id, hold in pairs(by) do
    local there = sum.known[id]
    if not there and not hold.lapsed and not hold.to then
      used, since, ends, parts = verb:less(used, since, ends, parts, hold.amount, now, now)
    elseif there and there.to and not there.also and (hold.also or not hold.to) then
      local more = there.amount - (hold.lapsed and hold.amount or 0)
      if more > 0 then
        used, since, ends, parts = verb:less(used, since, ends, parts, more, there.ends - LATE, now)
      end
    end
  end
  return used, since, ends, parts
end

-- Of two lists of sub-windows the larger of each, their sum, and whether that is more than the first.
local function higher_parts(mine, theirs)
  local by_part, order, more = {}, {}, false
  for n = 1, mine and #mine or 0, 2 do
    order[#order + 1], by_part[mine[n]] = mine[n], mine[n + 1]
  end
  for n = 1, theirs and #theirs or 0, 2 do
    local part, units = theirs[n], theirs[n + 1]
    if not by_part[part] then
      order[#order + 1] = part
    end
    if units > (by_part[part] or 0) then
      by_part[part], more = units, true
    end
  end
  table.sort(order)
  local parts, sum = {}, 0
  for _, part in ipairs(order) do
    parts[#parts + 1], parts[#parts + 2], sum = part, by_part[part], sum + by_part[part]
  end
  if sum > SAFE then -- [round]. INVARIANT: `used` is the sum of the parts
    sum, parts = SAFE, { parts[#parts - 1], SAFE }
  end
  return parts, sum, more
end

-- Raises `into` to the sum, if it is not as high already; which holds were copied.
local function raised(sum, after)
  local into, name, verb = subject_of[1], name_at[1], verb_at[1]
  local before = balance_of(into, name)
  local used, since, ends, parts, holds = brought(into, name, verb, before, now)
  local by, ids, any = copied(into, name, holds), {}, false
  for id, hold in pairs(sum.known) do
    if not hold.to and not by[id] then
      by[id], ids[id], any = hold, true, true
    end
  end
  local theirs, their_since, their_ends, their_parts = untold(sum, verb, by)
  local seen = sketches.counted(sketches.at(into, name), before, verb, used, since)
  local both, more = seen, false
  if sum.seen ~= sketches.none and (verb.kind == QUOTA or verb.kind == TOTAL) then
    both = sketches.united(seen, sum.seen)
  end
  if verb.kind == ROLLING then
    local higher, most
    higher, most, more = higher_parts(parts, their_parts)
    if more then
      used, ends, parts = most, max(ends, their_ends), higher
    end
  else
    local fresh = max(0, sketches.count(both) - sketches.count(seen))
    local most = max(theirs, min(used + fresh, SAFE))
    more = most > used
    if more then
      if used == 0 then
        since, ends, parts = verb.kind == RATE and max(since, their_since) or their_since, their_ends, their_parts
      elseif verb.kind == RATE then
        since = max(since, their_since)
      end
      used = most
    end
  end
  if any or more or both ~= seen then
    after[1] = verb:put(used, since, ends, parts, 0, any and summed(by, now) or holds, now)
    if both ~= sketches.none then
      after[1].sketch = both
    end
  end
  return ids
end

-- What a join leaves at a source: holds with these ids are held at `to` also, and what was used is brought to the
-- verb's window. `one`: the source as of now.
local function tied(n, balance, one, ids, to, verb)
  local subject, name, holds, any = subject_of[n], name_at[n], one.holds, false
  local by = next(ids) and holds and copied(subject, name, holds) or {}
  for id in pairs(ids) do
    local hold = by[id]
    if hold and (hold.also or not hold.to) then
      by[id] = { amount = hold.amount, ends = hold.ends, step = hold.step, lapsed = hold.lapsed, to = to, also = true }
      any = true
    end
  end
  if any or (one.used > 0 and sketches.other_window(balance, verb)) then
    holds = any and summed(by, max(now, holds.seen)) or holds
    local stays = verb:put(one.used, one.since, one.ends, one.parts, 0, holds, now)
    carried_on(n, balance, stays)
    return stays
  end
end

local function join()
  local to, after, found, named = sub(body, pos), {}, {}, {}
  local sum = gathering(to)
  named[subject_of[1].key .. name_at[1]] = true
  for n = 2, count do
    local subject, name = subject_of[n], name_at[n]
    local balance, place = balance_of(subject, name), subject.key .. name
    if balance and not named[place] then
      found[n] = gathered(sum, subject, name, balance, sketches.at(subject, name))
      named[place] = found[n] ~= nil
    end
  end
  local ids = raised(sum, after)
  for n, one in pairs(found) do
    after[n] = tied(n, balance_of(subject_of[n], name_at[n]), one, ids, to, verb_at[1])
  end
  settled(after, nil, nothing)
end
