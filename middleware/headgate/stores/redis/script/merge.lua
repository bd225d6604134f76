-- Merge and inherit: what several subjects have, moved into one, and what a group had, handed on to its orgs. Beside
-- it: `_merge` and `_inherit` in quota/ledger.py.
--
-- KEYS: the subjects', `into` first.
-- ARGV: a merge's body ends with the place of `into` as the notes are to name it, see `place_bytes` in lines.py.
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
    if not hold.to then
      moving[id], any = hold, true
    end
    notes[id] = note(hold, to)
  end
  if not any then
    return nil
  end
  local stays = { verb = own, used = 0, since = now, ends = now, holds = summed(notes, now), sketch = sketches.none }
  return left, moving, stays, sketches.counted(sketch, own, used, since)
end

-- Usage that adds up, and a sketch that unites: what both had counted is taken off again once.
local function joined(verb, used, since, ends, parts, seen, left, also)
  local theirs, their_since, their_ends, their_parts = verb:bring(left, now)
  used, since, ends, parts = verb:join(used, since, ends, parts, theirs, their_since, their_ends, their_parts)
  if also ~= sketches.none and theirs > 0 and (verb.kind == QUOTA or verb.kind == TOTAL) then
    local both = sketches.united(seen, also)
    local twice = sketches.count(seen) + sketches.count(also) - sketches.count(both)
    used, seen = max(0, used - twice), both
  end
  return used, since, ends, parts, seen
end

local function merge()
  local to = sub(body, pos)
  local into, called, verb = subject_of[1], name_at[1], verb_at[1]
  local used, since, ends, parts, union = brought(into, called, verb, balance_of(into, called), now)
  local by, after, moved = copied(into, called, union), {}, false
  local seen = sketches.counted(sketches.at(into, called), verb, used, since)
  for n = 2, count do
    local subject, name = subject_of[n], name_at[n]
    local balance, named_twice = balance_of(subject, name), subject == into and name == called
    for before = 2, n - 1 do
      named_twice = named_twice or (after[before] and subject_of[before] == subject and name_at[before] == name)
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

-- `theirs` (nil for nothing) is what the source has used, by its own verb; `also` what of its sketch counts.
local function inherited(theirs, also, after)
  local into, name, verb = subject_of[1], name_at[1], verb_at[1]
  local used, since, ends, parts, holds = brought(into, name, verb, balance_of(into, name), now)
  -- By this verb's own measure, whatever the group's plan was.
  local their_used, their_since, their_ends, their_parts = verb:bring(theirs, now)
  if verb:spent(their_used) > verb:spent(used) then
    after[1] = verb:put(their_used, their_since, their_ends, their_parts, 0, holds, now)
    local mine = sketches.counted(sketches.at(into, name), verb, used, since)
    after[1].sketch = (verb.kind == QUOTA or verb.kind == TOTAL) and sketches.united(mine, also) or sketches.none
  end
end

local function inherit()
  local after, subject, name, own = {}, subject_of[2], name_at[2], verb_at[2]
  local used, since, ends, parts = brought(subject, name, own, balance_of(subject, name), now)
  local also = sketches.counted(sketches.at(subject, name), own, used, since)
  inherited(own:put(used, since, ends, parts, 0, nil, now), also, after)
  settled(after, nil, nothing)
end
