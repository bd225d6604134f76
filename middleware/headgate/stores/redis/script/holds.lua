-- What is held for reservations that are still open, and what becomes of it. Beside it: quota/holds.py.
--
-- KEYS, ARGV: none are read here.
-- Why: to hold one more costs the same however many are held. The holds of a subject are the fields of one hash; the
-- balance knows their sum, their number and when the first is due, and all of them are read only when time does
-- something to all (`due`), when a clock was set back, for a merge and for a look.
--
-- A hold is a table that is never changed: amount, ends, step, lapsed, to (the place to which it was moved, as the
-- client wrote it; nil for none), also (it is held here as well). A balance's holds are:
--   held, due, seen, many   the sum of those that live, when the first is due, the last change, how many there are
--   by                      all of them by rid, where a command has gone through all
--   rid, mine               else the one that a command has changed: a hold, or false for one that was taken away
-- `many` may be 0: that is as none, and tells that those which were there are to be removed.

-- All holds of a balance as they lie in Redis, by rid. A map that nobody may change.
local function stored(subject, name)
  local lying = subject.lying or {}
  subject.lying = lying
  if not subject.walked then
    subject.walked = true
    local flat = call("HGETALL", subject.holds_key)
    for n = 1, #flat, 2 do
      local of, rid = sub(flat[n], 1, 4), sub(flat[n], 5)
      local known = lying[of]
      if not known then
        known = {}
        lying[of] = known
      end
      if known[rid] == nil then -- else this call knows better
        known[rid] = hold_read(flat[n + 1])
      end
    end
    for _, known in pairs(lying) do
      for rid, hold in pairs(known) do
        if not hold then
          known[rid] = nil
        end
      end
    end
  end
  lying[name] = lying[name] or {}
  return lying[name]
end

-- One reservation's hold, or nil.
local function hold_of(subject, name, holds, rid)
  if holds.many == 0 then
    return nil
  end
  if holds.by then
    return holds.by[rid]
  end
  local lying = subject.lying or {}
  subject.lying = lying
  local known = lying[name]
  if not known then
    known = {}
    lying[name] = known
  end
  local hold = known[rid]
  if hold == nil and not subject.walked then
    local value = call("HGET", subject.holds_key, name .. rid)
    hold = value and hold_read(value) or false
    known[rid] = hold
  end
  return hold or nil
end

local function all_of(subject, name, holds)
  return holds.by or stored(subject, name)
end

local function summed(by, now)
  local held, due, many = 0, FOREVER, 0
  for _, hold in pairs(by) do
    many = many + 1
    due = min(due, hold.ends)
    if not hold.lapsed then
      held = held + hold.amount
    end
  end
  return { held = held, due = due, seen = now, many = many, by = by }
end

-- The holds as they stand by a clock that was set back: what was left of each lease is left of it still.
local function set_back(subject, name, holds, now)
  local behind, by = holds.seen - now, {}
  for rid, hold in pairs(all_of(subject, name, holds)) do
    local ends = hold.ends - behind
    by[rid] = { amount = hold.amount, ends = ends, step = hold.step, lapsed = hold.lapsed, to = hold.to, also = hold.also }
  end
  return { held = holds.held, due = holds.due - behind, seen = now, many = holds.many, by = by }
end

local function sooner(one, other)
  return one.ends < other.ends
end

-- Charges live holds as of the instants at which their leases ended, and forgets those that lapsed long ago.
local function lapsed(subject, name, verb, balance, holds, now)
  local kept, ended = {}, {}
  for rid, hold in pairs(all_of(subject, name, holds)) do
    if hold.ends > now then
      kept[rid] = hold
    elseif not hold.lapsed and verb.kind ~= MAX then
      ended[#ended + 1] = { rid = rid, ends = hold.ends, hold = hold }
    end
  end
  table.sort(ended, sooner)
  for _, one in ipairs(ended) do
    local hold = one.hold
    -- INVARIANT: never before `since`: a backlog must not drain twice for the same time.
    local at = min(now, max(hold.ends, balance.since))
    local used, since, ends, parts = verb:bring(balance, at)
    balance = verb:put(used, since, ends, parts, hold.amount, nil, at)
    if hold.ends + LATE > now then
      kept[one.rid] = {
        amount = hold.amount, ends = hold.ends + LATE, step = hold.step, lapsed = true, to = hold.to, also = hold.also,
      }
    end
  end
  local used, since, ends, parts = verb:bring(balance, now)
  return used, since, ends, parts, summed(kept, max(now, holds.seen))
end

-- What counts as used at `now` and what is held then, with the leases that have ended charged.
local function brought(subject, name, verb, balance, now)
  local holds = balance and balance.holds
  if not holds then
    local used, since, ends, parts = verb:bring(balance, now)
    return used, since, ends, parts, nil
  end
  if holds.seen > now + CLOCK_SKEW then
    holds = set_back(subject, name, holds, now)
  end
  if holds.due <= now then
    return lapsed(subject, name, verb, balance, holds, now)
  end
  local used, since, ends, parts = verb:bring(balance, now)
  return used, since, ends, parts, holds
end

-- The holds with this one for a reservation that had `before` among them (nil: had none), or with none for it.
local function altered(holds, rid, before, hold, now)
  if not holds or holds.many == 0 then
    -- `by` is told on: what was there before is to be removed.
    local by = holds and holds.by
    if by then
      by = { [rid] = hold }
    end
    return { held = hold.amount, due = hold.ends, seen = now, many = 1, by = by, rid = rid, mine = hold }
  end
  local held, due, many = holds.held, holds.due, holds.many
  if before then
    many = many - 1
    held = held - (before.lapsed and 0 or before.amount)
  end
  if hold then
    many = many + 1
    held = held + (hold.lapsed and 0 or hold.amount)
    -- `due` may stay earlier than it needs to be: then a later command looks once for nothing.
    due = min(due, hold.ends)
    if before and many == 1 then -- the only one went before it came again
      due = hold.ends
    end
  end
  local by = holds.by
  if by then
    by[rid] = hold or nil -- made by this command, for nobody else
  end
  local seen = max(now, holds.seen)
  if before and hold and many == 1 then
    seen = now
  end
  return { held = held, due = due, seen = seen, many = many, by = by, rid = rid, mine = hold }
end

-- Two holds of one reservation at one place. If only one has lapsed, it is charged already: the other stays.
local function united(one, other)
  if not one or (one.to and not one.also) or (one.lapsed and not other.lapsed) then
    return other
  end
  if other.lapsed and not one.lapsed then
    return one
  end
  return {
    amount = min(one.amount + other.amount, SAFE), ends = max(one.ends, other.ends), step = max(one.step, other.step),
    lapsed = one.lapsed, to = one.also and one.to or other.to, also = one.also or other.also,
  }
end

-- What stays where a hold was, as long as anybody may ask for it. An earlier note is left as it is.
local function note(hold, to)
  if hold.to and not hold.also then
    return hold
  end
  return { amount = 0, ends = hold.ends + (hold.lapsed and 0 or LATE), step = hold.step, lapsed = true, to = to }
end

-- What stays of a hold that is held elsewhere also, once it is settled here.
local function ended(hold, used)
  return { amount = used, ends = now + LATE, step = hold.step, lapsed = true, to = hold.to }
end
