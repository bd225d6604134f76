-- What the commands do. Beside it: quota/ledger.py, which is the specification; this does the same, line by line.
--
-- KEYS: a reservation's and a cancellation's first key is the receipt's.
-- ARGV: see wire.lua.
-- Why: all or nothing is decided on values, and only what is decided is kept. No key is written before the last
-- command of a call has been decided (run.lua): a call that fails has done nothing.

local nothing = {} -- an `after` without entries; never written

local function receipt_at(at)
  local text = receipts[KEYS[at]]
  if text == nil then
    text = values[at]
  end
  if text then
    local granted, made, ends = unpacked("<BI7I7", text)
    return ends > now and { granted = granted == 1, at = made } or nil
  end
end

local function remember(at, granted)
  local key, ends = KEYS[at], now + max(lease, REPEAT)
  receipts[key] = packed("<BI7I7", granted and 1 or 0, now, ends)
  receipts_put[#receipts_put + 1], receipts_put[#receipts_put + 2] = key, life_for(ends - now)
end

-- Why `need` does not fit, and when it will if nothing else happens: appended to a list as wire.lua tells it.
local function refuse(list, n, used, since, ends, parts, held, need)
  local verb = verb_at[n]
  local free, at = verb:free(used), #list
  -- What is used up of a lifetime stays used up: no time gives it back.
  local most = verb.kind == TOTAL and max(0, free) or verb.capacity
  list[at + 1] = n - 1
  if need > most then
    list[at + 2], list[at + 3], list[at + 4] = 1, most, 0
    return
  end
  list[at + 2] = 0
  local soon = now + POLL
  local fits, wait = soon, 0
  if need + held <= verb.capacity then -- [round]
    fits, wait = verb:ready(used, since, ends, parts, need + held, now)
  end
  if need <= free then
    if fits + wait > soon then
      fits, wait = soon, 0
    end
  else
    local later, after = verb:ready(used, since, ends, parts, need, now)
    if later + after > fits + wait then
      fits, wait = later, after
    end
  end
  list[at + 3], list[at + 4] = fits, wait
end

local function tell_list(list)
  for n = 1, #list do
    tell(list[n])
  end
end

-- A balance is written by another window than it lies under: see `carry` in sketches.lua. Rare; nobody else pays for it.
local function carried_on(n, before, balance)
  local was, is = before and before.verb, balance.verb
  if
    before and (was.spec ~= is.spec or was.kind ~= is.kind)
    and (was.kind == QUOTA or was.kind == TOTAL) and (is.kind == QUOTA or is.kind == TOTAL)
  then
    sketches = sketches or distinct()
    sketches.carry(subject_of[n], name_at[n], before, balance)
  end
end

-- What is written though nothing is granted: balances that would else be brought anew from what no longer holds.
local function kept_also(after)
  local ahead = now + CLOCK_SKEW
  for n = 1, count do
    local subject, name, verb = subject_of[n], name_at[n], verb_at[n]
    local balance = balance_of(subject, name)
    local holds = balance and balance.holds
    if balance and not after[n] and (holds or balance.ends > now) then
      local leases = holds and (holds.due <= now or holds.seen > ahead)
      if leases or balance.since > ahead or balance.verb.spec ~= verb.spec or balance.verb.kind ~= verb.kind then
        local used, since, ends, parts, kept = brought(subject, name, verb, balance, now)
        after[n] = verb:put(used, since, ends, parts, 0, kept, now)
        carried_on(n, balance, after[n])
      end
    end
  end
end

local function keep_all(after)
  for n = 1, count do
    local balance = after[n]
    if balance then
      keep(subject_of[n], name_at[n], balance)
      if balance.sketch then
        sketches.draw(subject_of[n], name_at[n], balance)
      end
    end
  end
end

local function refused(refusals, shadowed)
  local after = {}
  kept_also(after)
  keep_all(after)
  tell(2)
  tell(now)
  tell(#shadowed / 4)
  tell(#refusals / 4)
  tell_balances()
  tell_list(shadowed)
  tell_list(refusals)
end

local function granted(after, shadowed)
  keep_all(after)
  out[1], out[2], out[3], size = 1, now, #shadowed / 4, 3
  tell_balances()
  if #shadowed > 0 then
    tell_list(shadowed)
  end
end

-- Whether `rid` was heard of before; then its outcome is told.
local function repeated(receipt)
  if not receipt then
    return false
  end
  if receipt.granted then
    granted(nothing, nothing)
  else
    tell(3)
    tell(now)
    tell(0)
  end
  return true
end

-- `short`: how long what would be used at once is held instead (see `Try` in parcel.py); nil where it is used.
-- `weighed`: it is refused elsewhere, and only asked what would refuse here (see `Weigh` there).
local function reserve(short, weighed)
  if not weighed and repeated(receipt_at(first_key)) then
    return
  end
  local after, refusals, shadowed, untold = {}, nothing, nothing, false
  for n = 1, count do
    local subject, name, verb, amount = subject_of[n], name_at[n], verb_at[n], amount_of[n]
    local hold, time = hold_at[n], lease
    local balance = balance_of(subject, name)
    if short and not hold and amount > 0 then
      hold, time = true, short
    end
    if not hold and not (balance and balance.holds) then
      -- Nothing is held and nothing is to be: the way of nearly every request, in one step.
      after[n] = verb:take(balance, amount, now)
    end
    if not after[n] then
      local used, since, ends, parts, holds = brought(subject, name, verb, balance, now)
      local held = holds and holds.held or 0
      local need, things = hold and amount == 0 and 1 or amount, sketches and sketches.things[n]
      if things then
        amount = sketches.unseen(sketches.counted(sketches.at(subject, name), balance, verb, used, since), things)
        need = amount
      end
      -- What was all named before costs nothing, and is granted whatever the debt is.
      local lacks = need > verb:free(used) - held and (need > 0 or not things)
      if lacks and owed_at[n] and not shadow_at[n] then
        amount, lacks = min(amount, SAFE - held), false -- or the sum would not be exact
      end
      if lacks then
        if owed_at[n] then -- what does not fit of it is not charged in shadow, and nobody is told
          untold = true
        elseif shadow_at[n] then
          shadowed = shadowed == nothing and {} or shadowed
          refuse(shadowed, n, used, since, ends, parts, held, need)
        else
          refusals = refusals == nothing and {} or refusals
          refuse(refusals, n, used, since, ends, parts, held, need)
        end
      else
        if hold then
          -- Already here only if a repeat comes later than any should: then it holds nothing twice.
          if not weighed and not (holds and hold_of(subject, name, holds, rid)) then
            local mine = { amount = amount, ends = now + time, step = 0, lapsed = false }
            holds = altered(holds, rid, nil, mine, now)
          end
          amount = 0
        end
        after[n] = verb:put(used, since, ends, parts, amount, holds, now)
        carried_on(n, balance, after[n])
      end
    end
  end
  if weighed or #refusals > 0 then
    return refused(refusals, shadowed)
  end
  if #shadowed > 0 or untold then
    kept_also(after)
  end
  remember(first_key, true)
  granted(after, shadowed)
end

-- The demands where their holds are now, or none if none was moved.
local function gone()
  tell(3)
  tell(now)
  local places = {}
  for n = 1, count do
    local balance = balance_of(subject_of[n], name_at[n])
    local holds = balance and balance.holds
    local mine = holds and hold_of(subject_of[n], name_at[n], holds, rid)
    if mine and mine.to then
      places[#places + 1] = { n - 1, mine.to }
    end
  end
  tell(#places)
  for _, place in ipairs(places) do
    tell(place[1])
    tell_bytes(place[2])
  end
end

local function extend()
  local after, refusals, shadowed, elsewhere = {}, {}, {}, false
  for n = 1, count do
    local subject, name, verb, amount = subject_of[n], name_at[n], verb_at[n], amount_of[n]
    local balance = balance_of(subject, name)
    local used, since, ends, parts, holds = brought(subject, name, verb, balance, now)
    local mine = holds and hold_of(subject, name, holds, rid)
    elsewhere = elsewhere or (mine and mine.also)
    if not mine or mine.lapsed then
      if not shadow_at[n] or (mine and mine.to) then
        return gone()
      end
    elseif mine.step < step then
      local others, need = holds.held - mine.amount, mine.amount + amount -- [round]
      if amount > 0 and need > verb:free(used) - others then
        if not owed_at[n] then
          refuse(shadow_at[n] and shadowed or refusals, n, used, since, ends, parts, others, need)
        end
        need = owed_at[n] and not shadow_at[n] and min(need, SAFE - others) or mine.amount
      end
      local grown = {
        amount = need, ends = now + lease, step = step, lapsed = false, to = mine.to, also = mine.also,
      }
      after[n] = verb:put(used, since, ends, parts, 0, altered(holds, rid, mine, grown, now), now)
      carried_on(n, balance, after[n])
    end
  end
  if #refusals > 0 then
    return refused(refusals, shadowed)
  end
  if elsewhere then -- here it is done; the rest of the answer is the other place's
    keep_all(after)
    return gone()
  end
  granted(after, shadowed)
end

local function settled(after, adds, moved)
  keep_all(after)
  tell(4)
  tell(now)
  tell(adds and count or 0)
  tell(#moved / 2)
  tell_balances()
  for n = 1, adds and count or 0 do
    tell(adds[n] or 0)
  end
  for n = 1, #moved, 2 do
    tell(moved[n])
    tell_bytes(moved[n + 1])
  end
end

local function settle()
  local after, moved, adds = {}, {}, {}
  for n = 1, count do
    local subject, name, verb, actual = subject_of[n], name_at[n], verb_at[n], amount_of[n]
    local balance = balance_of(subject, name)
    local used, since, ends, parts, holds = brought(subject, name, verb, balance, now)
    local mine = holds and hold_of(subject, name, holds, rid)
    if mine and mine.to then
      moved[#moved + 1], moved[#moved + 2] = n - 1, mine.to
    end
    if mine and (mine.also or not mine.to) then -- else it was settled before, or never held here: once is all there is
      local grown, things = nil, sketches and sketches.things[n]
      if things then
        local before = sketches.counted(sketches.at(subject, name), balance, verb, used, since)
        grown = sketches.with(before, things)
        if grown == before then
          grown = nil
        else
          actual = min(actual + max(0, sketches.count(grown) - sketches.count(before)), SAFE) -- [round]
        end
      end
      local told = actual
      if mine.lapsed then
        if actual < mine.amount then
          used, since, ends, parts =
            verb:less(used, since, ends, parts, mine.amount - actual, mine.ends - LATE, now)
        end
        actual = max(0, actual - mine.amount)
      end
      adds[n] = actual
      local left = mine.also and ended(mine, told) or false
      after[n] = verb:put(used, since, ends, parts, actual, altered(holds, rid, mine, left, now), now)
      after[n].sketch = grown
      carried_on(n, balance, after[n])
    end
  end
  settled(after, adds, moved)
end

-- `undo`: the reservation is taken back without a trace (see `Undo` in parcel.py): nothing that was used at once is
-- given back, and instead of a receipt that it was cancelled there is none that it was granted.
local function cancel(undo)
  local receipt = receipt_at(first_key)
  local after, moved = {}, {}
  for n = 1, count do
    local subject, name, verb = subject_of[n], name_at[n], verb_at[n]
    local balance = balance_of(subject, name)
    local used, since, ends, parts, holds = brought(subject, name, verb, balance, now)
    local mine = holds and hold_of(subject, name, holds, rid)
    if mine and mine.to then
      moved[#moved + 1], moved[#moved + 2] = n - 1, mine.to
    end
    if mine and (mine.also or not mine.to) then
      if mine.lapsed then
        used, since, ends, parts = verb:less(used, since, ends, parts, mine.amount, mine.ends - LATE, now)
      end
      local left = mine.also and ended(mine, 0) or false
      after[n] = verb:put(used, since, ends, parts, 0, altered(holds, rid, mine, left, now), now)
    elseif mine then
      after[n] = nil -- it is undone where it was moved to
    elseif not undo and not hold_at[n] and not shadow_at[n] and receipt and receipt.granted then
      -- A shadow demand may not have been charged: to give it back could free what others used.
      used, since, ends, parts = verb:less(used, since, ends, parts, amount_of[n], receipt.at, now)
      after[n] = verb:put(used, since, ends, parts, 0, holds, now)
    end
    if after[n] then
      carried_on(n, balance, after[n])
    end
  end
  if not undo then
    remember(first_key, false)
  elseif receipt and receipt.granted then
    receipts[KEYS[first_key]] = false
    receipts_put[#receipts_put + 1], receipts_put[#receipts_put + 2] = KEYS[first_key], ""
  end
  settled(after, nil, moved)
end

local function look()
  tell(5)
  tell(now)
  tell_balances(true)
end
