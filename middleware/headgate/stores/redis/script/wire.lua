-- How a command comes over the wire, and how its outcome goes back. The client's side of both: codec.py.
--
-- KEYS: see call.lua.
-- ARGV: 1 and 2 see call.lua; then one body for each command:
--   op B, keys H, now d (-1: the server's clock), lease d, step d, rid B c0, demands H, then for each demand:
--     subject H (0: the command's first), flags B (1: held, 2: in shadow, 4: has things, 8: owed), amount d, line H c0, and if
--     it has: things I4 c0, eight bytes each
--   and what some commands add, see merge.lua and parcel.lua.
--   op: 1 reserve, 2 extend, 3 settle, 4 cancel, 5 look, 6 merge, 7 join; and those of parcel.py: 8 try (`step` is
--   how long what is used at once is held), 9 undo, 10 give, 11 take, 12 given, 13 lift, 14 weigh, 15 show, 16 tie
-- Why: struct reads a record in one step, and a line (a limit's name and its window) is the same for most requests of
-- a call: it is read when it comes up first.
--
-- A line: name c4, kind B, then
--   rate      key B c0, spec d, drain d, brim d
--   quota     spec d, capacity d, length d, edges: d each
--   rolling   key B c0, length d, spec d, capacity d
--   max, total  capacity d
--
-- An outcome goes back as 8-byte integers, little-endian; bytes among them are led by their length and filled up to
-- a whole number of integers:
--   1 granted   now, how many shadowed; balances; shadowed
--   2 refused   now, how many shadowed, how many refuse; balances; shadowed; refusals
--   3 gone      now, how many moved; moved
--   4 settled   now, how many added, how many moved; balances; added; moved
--   5 seen      now; balances
--   6 parted    now, 1 or 0; the source's balance; if 1 the parcel, see parcel.lua
--   7 granted   now; used, since and ends of each balance, which is as the demand says and has nothing else to tell,
--               but for a rolling window how many parts, and each
--   8 shown     now; balance; 1 or 0; if 1: since and bytes of the sketch
-- a balance: 0 for none; or flags, used, since, ends, and if the flag is set
--   2: kind, spec (else they are the demand's)   4: how many parts, and each   8: held, due, seen, many
--   16: how many holds (all; or the command's own, of a demand with things), and each: rid, amount, ends, step,
--   1 for lapsed and 2 for also, to (its length -1 for none)
-- a refusal: the demand's number from 0, 0 for "not yet", and two numbers whose sum is the instant; or 1 and the most
-- moved: the demand's number, and the place as the client had written it

local METHODS = { Rate, Quota, Rolling, Max, Total }

-- Makes a line's verb able to do what a verb does.
local function readied(line)
  local verb = line.verb
  if verb.kind == QUOTA then
    local text, from = line.text, verb.edges
    verb.edges = { unpacked("<" .. rep("d", (#text - from + 1) / 8), text, from) }
    verb.edges[#verb.edges] = nil -- struct tells last where it stopped
  end
  setmetatable(verb, METHODS[verb.kind])
end

local name_at, verb_at = {}, {} -- of each demand
local hold_at, shadow_at, owed_at = {}, {}, {}

-- Whoever finds no room shares the overflow, limit by limit, and so does everybody new as long as anything counts
-- there: it could have been theirs.
local function placed(subject, name, makes)
  if subject.windows[name] ~= nil then
    return subject
  end
  local shared = balance_of(overflow, name)
  if shared and (shared.ends > now or shared.holds) then
    return overflow
  end
  return full and makes and not subject.lies and overflow or subject
end

-- Reads the demands, and brings `now` up to the newest instant at which one of their subjects was counted, if that is
-- ahead by no more than clocks differ. The first `placing` of them may be counted at the overflow: what somebody has
-- there cannot be told from what others have, and is not moved away.
local function read_demands(first, placing, makes)
  local newest = now
  for n = 1, count do
    local at, flags, text
    at, flags, amount_of[n], text, pos = unpacked("<HBdHc0", body, pos)
    local line, subject = lines[text] or line_of(text), subject_at(first + at)
    if not line.verb.bring then
      readied(line)
    end
    if overflow and n <= placing then
      subject = placed(subject, line.name, makes)
    end
    local base = subject.base
    if base > newest and base - now <= CLOCK_SKEW then
      newest = base
    end
    subject_of[n], name_at[n], verb_at[n] = subject, line.name, line.verb
    hold_at[n], shadow_at[n], owed_at[n] = flags % 2 == 1, flags % 4 >= 2, flags >= 8
    if sketches or flags % 8 >= 4 then
      sketches = sketches or distinct()
      sketches.read(n, flags % 8 >= 4)
    end
  end
  now = newest
end

local pieces
local outbox_puts = {} -- by key: what is to be written there and for how long; false to remove it

local AT_ONCE = 500 -- integers packed in one step: Lua's stack takes 8,000

local function flushed()
  pieces = pieces or {}
  for from = 1, size, AT_ONCE do
    pieces[#pieces + 1] = integers(from, min(from + AT_ONCE - 1, size))
  end
  size = 0
end

local function tell(number)
  size = size + 1
  out[size] = number
end

local function tell_bytes(text)
  tell(#text)
  flushed()
  pieces[#pieces + 1] = text .. rep("\0", -#text % 8)
end

-- The outcome as it goes over the wire.
local function told()
  if not pieces and size <= AT_ONCE then
    return integers(1, size)
  end
  flushed()
  local text = table.concat(pieces)
  pieces = nil
  return text
end

local function tell_holds(by)
  local many = 0
  for _ in pairs(by) do
    many = many + 1
  end
  tell(many)
  for id, hold in pairs(by) do
    tell_bytes(id)
    tell(hold.amount)
    tell(hold.ends)
    tell(hold.step)
    tell((hold.lapsed and 1 or 0) + (hold.also and 2 or 0))
    if hold.to then
      tell_bytes(hold.to)
    else
      tell(-1)
    end
  end
end

-- A balance; each of its holds where a reader needs them: one that is due, a clock that was set back, or a look. And
-- the command's own, where only the script knows how much was held.
local function tell_balance(n, balance, all)
  if not balance then
    size = size + 1
    out[size] = 0
    return
  end
  local verb, asked = balance.verb, verb_at[n]
  local parts, holds, flags = balance.parts, balance.holds, 1
  if verb ~= asked and (verb.spec ~= asked.spec or verb.kind ~= asked.kind) then
    flags = flags + 2
  end
  if parts then
    flags = flags + 4
  end
  local listed = nil
  if holds then
    if all or holds.due <= now or holds.seen > now + CLOCK_SKEW then
      listed = all_of(subject_of[n], name_at[n], holds)
    elseif sketches and sketches.things[n] and (op == 1 or op == 8) then
      listed = { [rid] = hold_of(subject_of[n], name_at[n], holds, rid) }
    end
    flags = flags + (listed and 24 or 8)
  end
  out[size + 1], out[size + 2], out[size + 3], out[size + 4] = flags, balance.used, balance.since, balance.ends
  size = size + 4
  if flags == 1 then
    return
  end
  if flags % 4 >= 2 then
    tell(verb.kind)
    tell(verb.spec)
  end
  if parts then
    tell(#parts / 2)
    for at = 1, #parts do
      tell(parts[at])
    end
  end
  if holds then
    tell(holds.held)
    tell(holds.due)
    tell(holds.seen)
    tell(holds.many)
    if listed then
      tell_holds(listed)
    end
  end
end

-- The balances as they are now, whatever has changed them.
local function tell_balances(all)
  for n = 1, count do
    tell_balance(n, balance_of(subject_of[n], name_at[n]), all)
  end
end
