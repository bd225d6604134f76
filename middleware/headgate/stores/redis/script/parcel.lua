-- Give, take, given, show, lift and tie: a merge and a join whose places lie in different slots. Beside it:
-- parcel.py.
--
-- KEYS: give and given: a receipt's, the subject's and the outbox; take: a receipt's and the subject's; lift, tie
-- and show: the subject's.
-- ARGV: `rid` is the parcel's id; `lease` of a take is the instant up to which it is remembered. Then, behind the
-- demand: give: the place of `into`; take: the balance and the bytes of its sketch, I4 c0; lift: the same
-- of all sources together, and the place of `into`; tie: how many ids I, each B c0, and the place of `into`.
-- A balance: kind B, used d, since d, ends d, spec d, seen d (of its holds), how many parts H and holds I, parts dd
-- each, holds: rid B c0, amount d, ends d, step d, flags B (1: lapsed, 2: at that place, 4: also).
-- Why: what is moved must be in the source, in the outbox or in the target, and never in two of them. So the source
-- keeps what it has given until it is told that it was taken, and the target remembers what it has taken for as long
-- as the source may send it.

-- The balance that a body holds from `pos` on, or nil.
local function balance_read()
  local kind, used, since, ends, spec, seen, many_parts, many_holds
  kind, pos = unpacked("<B", body, pos)
  if kind == 0 then
    return nil
  end
  local parts, by = nil, {}
  used, since, ends, spec, seen, many_parts, many_holds, pos = unpacked("<dddddHI", body, pos)
  for n = 1, many_parts do
    parts = parts or {}
    parts[2 * n - 1], parts[2 * n], pos = unpacked("<dd", body, pos)
  end
  for _ = 1, many_holds do
    local hold, id, over = {}, nil, nil
    id, hold.amount, hold.ends, hold.step, over, pos = unpacked("<Bc0dddB", body, pos)
    hold.lapsed, hold.there, hold.both = over % 2 == 1, over % 4 >= 2, over >= 4
    by[id] = hold
  end
  return {
    verb = { kind = kind, spec = spec }, used = used, since = since, ends = ends, parts = parts,
    holds = next(by) and summed(by, seen) or nil,
  }
end

-- The text of a parcel: until when it is kept, its id, the place it goes to, and the balance as `tell_balance` tells
-- it, with its kind and spec, for another policy may read it, and all its holds; then its sketch, where it has one.
local function parcel_text(to, left, moving, ends, also)
  tell(ends)
  tell_bytes(rid)
  tell_bytes(to)
  if next(moving) then
    left.holds = summed(moving, now)
  end
  verb_at[1] = nothing
  tell_balance(1, left, true)
  verb_at[1] = left.verb
  if also ~= sketches.none then
    tell_bytes(sketches.bytes(also))
  end
  return told()
end

-- What waits at an outbox, as far as this call knows.
local function waiting_at(key, value)
  local put = outbox_puts[key]
  if put == nil then
    return value
  end
  return put and put.text
end

local function give()
  local subject, name, own = subject_of[1], name_at[1], verb_at[1]
  local key, to, after = KEYS[first_key + 2], sub(body, pos), {}
  local waiting, balance = waiting_at(key, values[first_key + 2]), balance_of(subject, name)
  -- Said again late, when its parcel is gone: nothing is taken out that would be taken for that one.
  if not waiting and balance and not receipt_at(first_key) then
    local left, moving, stays, also = parted(subject, name, own, balance, to, sketches.at(subject, name))
    if left then
      local ends = left.ends
      for _, hold in pairs(moving) do
        -- Until it is forgotten, and until what it is charged when its lease ends does not count any more.
        local used, since, last, parts = own:bring(left, hold.ends)
        ends = max(ends, hold.ends + LATE, own:put(used, since, last, parts, hold.amount, nil, hold.ends).ends)
      end
      waiting = parcel_text(to, left, moving, ends, also)
      outbox_puts[key] = { text = waiting, life = life_for(ends - now) }
      size, after[1] = 0, stays
    end
  end
  keep_all(after)
  tell(6)
  tell(now)
  tell(waiting and 1 or 0)
  tell_balances()
  if waiting then
    flushed()
    pieces[#pieces + 1] = waiting
  end
end

local function take()
  local into, name, verb, after = subject_of[1], name_at[1], verb_at[1], {}
  if not receipt_at(first_key) and lease > now then -- else nothing of it counts any more
    local parcel = balance_read()
    local sketch = sketches.of(sketches.begun(parcel.verb, parcel.since), (unpacked("<I4c0", body, pos)))
    local left, moving, _, also = parted(nil, nil, verb, parcel, "", sketch)
    if left then
      local before = balance_of(into, name)
      local used, since, ends, parts, union = brought(into, name, verb, before, now)
      local by = copied(into, name, union)
      local seen = sketches.counted(sketches.at(into, name), before, verb, used, since)
      used, since, ends, parts, seen = joined(verb, used, since, ends, parts, seen, left, also)
      for id, hold in pairs(moving) do
        by[id] = united(by[id], hold)
      end
      after[1] = verb:put(used, since, ends, parts, 0, summed(by, now), now)
      after[1].sketch = seen
    end
    lease = lease - now -- as `remember` counts it
    remember(first_key, true)
  end
  settled(after, nil, nothing)
end

local function given()
  local key = KEYS[first_key + 2]
  local waiting = waiting_at(key, values[first_key + 2])
  -- Eight bytes until when it is kept, eight for the length of the id, the id.
  if waiting and sub(waiting, 17, 16 + unpacked("<i8", waiting, 9)) == rid then
    outbox_puts[key] = false
    lease = unpacked("<i8", waiting) + 2 * LATE - now -- for longer than the target remembers it
    remember(first_key, true)
  end
  settled(nothing, nil, nothing)
end

local function lift()
  local theirs, after, data = balance_read(), {}, nil
  data, pos = unpacked("<I4c0", body, pos)
  local to = sub(body, pos)
  for _, hold in pairs(theirs.holds and theirs.holds.by or {}) do
    hold.to, hold.also = hold.there and to or nil, hold.both
  end
  local sum = gathering(to)
  gathered(sum, nil, nil, theirs, sketches.of(sketches.begun(theirs.verb, theirs.since), data))
  raised(sum, after)
  settled(after, nil, nothing)
end

local function tie()
  local subject, name, verb, ids, many, id = subject_of[1], name_at[1], verb_at[1], {}, nil, nil
  many, pos = unpacked("<I4", body, pos)
  for _ = 1, many do
    id, pos = unpacked("<Bc0", body, pos)
    ids[id] = true
  end
  local balance, after = balance_of(subject, name), {}
  if balance then
    local one = {}
    one.used, one.since, one.ends, one.parts, one.holds = brought(subject, name, verb, balance, now)
    after[1] = tied(1, balance, one, ids, sub(body, pos), verb)
  end
  settled(after, nil, nothing)
end

local function show()
  tell(8)
  tell(now)
  tell_balances(true)
  local sketch = sketches.at(subject_of[1], name_at[1])
  tell(sketch and 1 or 0)
  if sketch then
    tell(sketch.since)
    tell_bytes(sketches.bytes(sketch))
  end
end

sketches = sketches or distinct()

return {
  [6] = function()
    read_demands(first_key, 1, true)
    merge()
  end,
  [7] = function()
    read_demands(first_key, 1, true)
    join()
  end,
  [10] = function()
    read_demands(first_key + 1, 0)
    give()
  end,
  [11] = function()
    read_demands(first_key + 1, 1, true)
    take()
  end,
  [12] = function()
    read_demands(first_key + 1, 0)
    given()
  end,
  [13] = function()
    read_demands(first_key, 1, true)
    lift()
  end,
  [15] = function()
    read_demands(first_key, 0)
    show()
  end,
  [16] = function()
    read_demands(first_key, 0)
    tie()
  end,
}
