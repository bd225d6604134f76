-- How the balances of a subject are made of its bytes, and the bytes of balances. The layout is told in call.lua.
--
-- KEYS, ARGV: none are read here.
-- Why: what is held, moved, run out or refused is decided on balances (balance.lua); what lies in Redis is as short
-- as it goes.
--
-- What a balance was written under, its key:
--   rate      b < 196: 4 * number + which width the drain has (0, 1, 3 or 7 bytes; none: it is 1); spec; drain
--   rolling   b < 245: 196 + number; length
--   quota     245, and which calendar window; or 246, and spec, since and ends as doubles
--   max       247
--   total     248
-- a number is a mantissa of 1 to 7 bytes times a power of ten up to 6: 7 * (bytes - 1) + power.
--
-- The parts of a rolling window are counted back from the sub-window of `since`, the newest first: how far B, units
-- I; if one lies ahead or further back, the shape says "wide": all are dd, from the newest on. A wide shape of one
-- without parts, or of a total, ends with its `ends`, d, which is not the usual one then.

local REMEMBERED = 3600000000 -- what ran out so long ago is dropped: a clock may be set back by less than that

local verbs_by_key, verbs_by_spec, numbers_formats = {}, {}, {}

-- A verb as far as a balance tells it: kind, spec and what its end follows from: of a rate the drain, of a rolling
-- window the length. The key has a mantissa and a power of ten.
local function verb_of(key)
  local b = byte(key, 1)
  local verb = { key = key, kind = RATE, drain = 1 }
  if b >= KEY.max then
    verb.kind, verb.spec = b == KEY.max and MAX or TOTAL, 0
  else
    local at = b < KEY.rolling and floor(b / 4) or b - KEY.rolling
    local width = floor(at / 7) + 1
    local number = unpacked("<I" .. width, key, 2) * 10 ^ (at % 7)
    if b >= KEY.rolling then
      verb.kind, verb.length, verb.spec = ROLLING, number, ceil(number / 24)
    else
      verb.spec = number
      if b % 4 > 0 then
        verb.drain = unpacked("<I" .. DRAIN_WIDTHS[b % 4], key, 2 + width)
      end
    end
  end
  verbs_by_key[key] = verb
  return verb
end

local function quota_of(spec)
  local verb = verbs_by_spec[spec] or { kind = QUOTA, spec = spec }
  verbs_by_spec[spec] = verb
  return verb
end

-- A rolling window's parts and their sum. Narrow ones count back from the sub-window of `since`, the newest first.
local function parts_of(raw, form, many, since, spec)
  local parts, sum, at, pos = {}, 0, floor(since / spec), form.fixed + 1
  local format = form.wide and "<dd" or "<BI" .. form.width
  for n = 2 * many, 2, -2 do
    local part, units
    part, units, pos = unpacked(format, raw, pos)
    at = form.wide and part or at - part
    parts[n - 1], parts[n] = at, units
    sum = sum + units
  end
  return parts, sum
end

-- The balance that these bytes of a subject mean.
local function decoded(subject, raw)
  local a, b = byte(raw, 1), byte(raw, 6)
  local form = forms[a * 256 + b] or formed(a, b)
  local kind, start = form.kind, 6 + form.key
  local used, since, held, due, seen, many, verb, ends, parts
  if form.since then
    used, since, held, due, seen, many = unpacked(form.format, raw, start)
  else
    used, held, due, seen, many = unpacked(form.format, raw, start)
    since = subject.lain
  end
  if b == KEY.calendar then
    local last = 9 * byte(raw, 7)
    local bytes = sub(subject.head, last - 8, last)
    local calendar = calendars[bytes] or calendar_of(bytes)
    verb, since, ends = quota_of(calendar[1]), calendar[2], calendar[3]
  elseif b == KEY.window then
    local spec
    spec, since, ends = unpacked("<ddd", raw, 7)
    verb = quota_of(spec)
  else
    local key = sub(raw, 6, start - 1)
    verb, ends = verbs_by_key[key] or verb_of(key), since
    if kind == RATE then
      ends = min(since + ceil(used / verb.drain), FOREVER) -- as `Rate.empty` has it
    elseif kind == TOTAL then
      ends = form.wide and unpacked("<d", raw, form.fixed - 7) or FOREVER
    elseif kind == ROLLING and used > 0 then
      parts, used = parts_of(raw, form, used, since, verb.spec)
      ends = (parts[#parts - 1] + 1) * verb.spec + verb.length
    elseif form.wide then
      ends = unpacked("<d", raw, form.fixed + 1)
    end
  end
  return {
    verb = verb, used = used, since = since, ends = ends, parts = parts,
    holds = form.holds and { held = held, due = due, seen = seen, many = many } or nil,
  }
end

-- The key of a quota's balance; the windows of one calendar are written once.
local function window_key(subject, balance)
  local spec, since, length = balance.verb.spec, balance.since, balance.ends - balance.since
  local head = subject.head
  if
    since >= 0 and since % QUARTER == 0 and length % QUARTER == 0 and length < 65536 * QUARTER
    and since < 16777216 * QUARTER and spec >= 0 and spec < 4294967296
  then
    local bytes = packed("<I4I3I2", spec, since / QUARTER, length / QUARTER)
    for last = 9, #head, 9 do
      if sub(head, last - 8, last) == bytes then
        return char(KEY.calendar, last / 9)
      end
    end
    if #head < 9 * 63 then
      subject.head = head .. bytes
      return char(KEY.calendar, #head / 9 + 1)
    end
  end
  return char(KEY.window) .. packed("<ddd", spec, since, balance.ends)
end

-- The parts of a rolling window as `parts_of` reads them: width, narrow or not, bytes. Narrow, unless one lies ahead
-- or long before the next.
local function parts_written(balance)
  local parts = balance.parts
  if not parts or #parts == 0 then
    local usual = balance.ends == balance.since
    return 1, usual, usual and "" or packed("<d", balance.ends)
  end
  local at, width, narrow = floor(balance.since / balance.verb.spec), 1, true
  for n = #parts, 2, -2 do
    local gap = at - parts[n - 1]
    narrow = narrow and gap >= 0 and gap < 256
    width = max(width, width_of(parts[n]))
    at = parts[n - 1]
  end
  local text, format = {}, narrow and "<BI" .. width or "<dd"
  at = floor(balance.since / balance.verb.spec)
  for n = #parts, 2, -2 do
    text[#text + 1] = packed(format, narrow and at - parts[n - 1] or parts[n - 1], parts[n])
    at = parts[n - 1]
  end
  return width, narrow, table.concat(text)
end

local function encoded(subject, name, balance)
  local verb, first, since, holds = balance.verb, balance.used, balance.since, balance.holds
  local kind, key, tail, narrow, width = verb.kind, verb.key, "", true, nil
  if kind == ROLLING then
    width, narrow, tail = parts_written(balance)
    first = balance.parts and #balance.parts / 2 or 0
  else
    width = width_of(first)
    if kind == QUOTA then
      key = window_key(subject, balance)
    elseif kind == TOTAL and balance.ends ~= FOREVER then -- what a merge has left
      narrow, tail = false, packed("<d", balance.ends)
    end
  end
  local away = kind ~= QUOTA and since ~= subject.base
  local shape = width + (away and 8 or 0) + (holds and HELD or 0)
  local at = kind == ROLLING and -shape or shape
  local format = numbers_formats[at]
  if not format then
    format = "<" .. (kind == ROLLING and "H" or "I" .. width) .. (away and "I7" or "") .. (holds and "dddd" or "")
    numbers_formats[at] = format
  end
  shape = shape + (kind == QUOTA and 8 or 0) + (narrow and 0 or 32)
  local numbers
  if holds and away then
    numbers = packed(format, first, since, holds.held, holds.due, holds.seen, holds.many)
  elseif holds then
    numbers = packed(format, first, holds.held, holds.due, holds.seen, holds.many)
  elseif away then
    numbers = packed(format, first, since)
  else
    numbers = packed(format, first)
  end
  return char(shape) .. name .. key .. numbers .. tail
end

-- A hold as the value of its field: flags (1: lapsed, 2: moved, 4: held here also), amount, ends, step, and where it was moved to.
local function hold_read(value)
  local flags, amount, ends, step, pos = unpacked("<BI7dI7", value)
  return {
    amount = amount, ends = ends, step = step, lapsed = flags % 2 == 1,
    to = flags >= 2 and sub(value, pos) or nil, also = flags >= 4,
  }
end

local function hold_written(hold)
  local flags = (hold.lapsed and 1 or 0) + (hold.to and 2 or 0) + (hold.also and 4 or 0)
  return packed("<BI7dI7", flags, hold.amount, hold.ends, hold.step) .. (hold.to or "")
end

-- The subject whose key stands at this place of KEYS: its balances by their limits' names, as bytes for now.
local function subject_at(at)
  local key, windows = KEYS[at], {}
  local subject = subjects[key]
  if subject then
    return subject
  end
  subject = {
    key = key, holds_key = char(byte(key, 1), byte(key, 2) + 1) .. sub(key, 3), -- hg: hh, ho: hp
    base = 0, lain = 0, span = 0, head = "", windows = windows,
  }
  subjects[key] = subject
  order[#order + 1] = subject
  local text = texts[key] or values[at]
  if text then
    local base, span, flags, _, start = unpacked("<I7BBB", text)
    subject.base, subject.lain, subject.span, subject.lies = base, base, span, true
    if flags >= 128 then
      subject.kept, start = unpacked("<d", text, start)
    end
    local first = start + 9 * (flags % 64)
    subject.head = sub(text, start, first - 1)
    while first <= #text do
      local length = length_at(text, first)
      windows[sub(text, first + 1, first + 4)] = sub(text, first, first + length - 1)
      first = first + length
    end
  end
  return subject
end

-- What is known of a limit, or nil. Bytes are made a balance when one asks for it.
local function balance_of(subject, name)
  local balance = subject.windows[name]
  if type(balance) == "string" then
    balance = decoded(subject, balance)
    subject.windows[name] = balance
  end
  return balance
end

-- A balance is as it is from now on, and so are the holds that the command has changed.
local function keep(subject, name, balance)
  subject.windows[name] = balance
  subject.base, subject.dirty = now, true
  local holds = balance.holds
  if not holds then
    return
  end
  local lying, changed = subject.lying or {}, subject.changed or {}
  subject.lying, subject.changed = lying, changed
  local known = lying[name] or {}
  local by = holds.by
  if by then
    for rid, hold in pairs(by) do
      if known[rid] ~= hold then
        changed[name .. rid] = hold
      end
    end
    for rid in pairs(known) do
      if not by[rid] then
        changed[name .. rid] = false
        if not subject.walked then
          by[rid] = false -- it is still in Redis until this call ends
        end
      end
    end
    known = by
  elseif holds.rid then
    known[holds.rid] = holds.mine
    if subject.walked and not holds.mine then
      known[holds.rid] = nil -- of a map of all; else false tells that there is none
    end
    changed[name .. holds.rid] = holds.mine
  end
  holds.by, holds.rid, holds.mine = nil, nil, nil
  lying[name] = known
  if holds.many == 0 then
    balance.holds = nil
  end
end

-- All windows of a subject are looked at: what ran out long ago is dropped, and so are calendars that nobody needs.
local function swept(subject)
  local windows, long_ago = subject.windows, subject.base - REMEMBERED
  for name in pairs(windows) do
    local balance = balance_of(subject, name)
    if balance.ends <= long_ago and not balance.holds then
      windows[name] = nil
    end
  end
  subject.head, subject.span = "", 0
end

local MANY = 1000 -- arguments of one call: Lua's stack takes 8,000

local function holds_put(subject)
  local key, set, gone, latest = subject.holds_key, {}, {}, 0
  for field, hold in pairs(subject.changed) do
    if hold then
      set[#set + 1], set[#set + 2] = field, hold_written(hold)
      latest = max(latest, hold.ends + LATE)
    else
      gone[#gone + 1] = field
    end
  end
  for n = 1, #set, MANY do
    call("HSET", key, unpack(set, n, min(n + MANY - 1, #set)))
  end
  for n = 1, #gone, MANY do
    call("HDEL", key, unpack(gone, n, min(n + MANY - 1, #gone)))
  end
  if latest > (subject.kept or 0) then
    subject.kept = latest + 300000000 -- five minutes more, so that it need not be said each time
    call("PEXPIRE", key, life_for(subject.kept - subject.base))
  end
end

local function subject_put(subject)
  local windows, base, lain = subject.windows, subject.base, subject.lain
  if base < lain or floor(base / SWEPT) ~= floor(lain / SWEPT) then
    swept(subject)
  end
  local text, any_held, longest, on_base = {}, false, 0, 0
  for name, balance in pairs(windows) do
    if type(balance) == "string" and base ~= lain and byte(balance) % 16 < 8 then
      balance = decoded(subject, balance) -- its `since` was the former base
    end
    if type(balance) ~= "string" then
      longest = max(longest, balance.ends - base)
      balance = encoded(subject, name, balance)
    end
    local shape = byte(balance)
    any_held = any_held or shape % 32 >= HELD
    on_base = on_base + (shape % 16 < 8 and 1 or 0)
    text[#text + 1] = balance
  end
  if not any_held then
    subject.kept = nil -- the hash went with its last field, and its time with it
  end
  local kept, head = subject.kept, subject.head
  if #text == 0 then
    call("DEL", subject.key)
    return
  end
  if kept and kept > base then
    longest, head = max(longest, kept - base), packed("<d", kept) .. head
  else
    kept = nil
  end
  local span = lasting(longest, subject.span)
  local flags = #subject.head / 9 + (kept and 128 or 0)
  call("SET", subject.key, packed("<I7BBB", base, span, flags, min(on_base, 255)) .. head .. table.concat(text),
    "PX", life_of(span))
end
