-- A reservation as nearly every request makes it: nothing is held, every window is known and open, everything is
-- granted. Decided on the bytes that lie in Redis.
--
-- KEYS, ARGV: see call.lua and wire.lua.
-- Why: a server that decides 50,000 a second has 20 microseconds for each. What is told here in one breath,
-- ledger.lua says at length; nothing is decided here that would be decided otherwise there. Whatever is not as usual
-- (somebody is refused, a window has run out, something is held, a clock is behind) is left to it: then false comes
-- back, and nothing has been done.

-- The subjects of the command at hand, side by side: key, bytes behind the head, where the balances begin in them,
-- the head's numbers; and of those asked for how many had the base for their `since` before, and have it now.
local key_of, text_of, first_of, base_of, span_of = {}, {}, {}, {}, {}
local flags_of, on_base_of, before_of, after_of = {}, {}, {}, {}
local calendars = {} -- spec, since and ends by the nine bytes in which they lie
local reaches = {} -- microseconds that a span covers
local receipts_now, receipts_end, receipts_text, receipts_life -- the last one: most of a call are alike
local widths = { "<I1", "<I2", "<I3", "<I4", "<I5", "<I6", "<I7" }

local function calendar_of(bytes)
  local spec, since, length = unpacked("<I4I3I2", bytes)
  since = since * QUARTER
  calendars[bytes] = { spec, since, since + length * QUARTER }
  return calendars[bytes]
end

local function reach_of(span)
  reaches[span] = 2 ^ (span / 4) * 1000
  return reaches[span]
end

local function format_of(mark, width)
  local format = "<Bc" .. mark .. "I" .. width
  formats[8 * mark + width] = format
  return format
end

local function width_of(number)
  if number < 65536 then
    return number < 256 and 1 or 2
  elseif number < 4294967296 then
    return number < 16777216 and 3 or 4
  elseif number < 281474976710656 then
    return number < 1099511627776 and 5 or 6
  end
  return 7
end

-- One more use of the open sub-window of a rolling window, whose bytes begin with its number of parts at `at`: its
-- bytes and where they end, the sum, the end; the parts are told behind `cell`. False where anything is otherwise.
local function rolled(verb, mark, text, at, shape, base, amount, cell)
  local many, width, since, rest = unpacked("<H", text, at), shape % 8, base, at + 2
  if shape >= 8 then
    since, rest = unpacked("<I7", text, rest)
  end
  if many == 0 or many > 100 or amount == 0 or now < since then
    return false
  end
  local spec, format = verb.spec, formats[-8 * many - width]
  if not format then
    format = "<" .. rep("BI" .. width, many)
    formats[-8 * many - width] = format
  end
  local parts = { unpacked(format, text, rest) } -- how far back, and units; the newest first
  local part, sum, newest = floor(since / spec) - parts[1], 0, parts[2] + amount
  if part ~= floor(now / spec) or newest >= 256 ^ width then
    return false
  end
  parts[1], parts[2] = 0, newest
  local last, ends = cell + 4 + 2 * many, (part + 1) * spec + verb.length
  out[cell + 4] = many
  for n = 1, many do
    part = part - parts[2 * n - 1]
    sum = sum + parts[2 * n]
    out[last - 2 * n + 1], out[last - 2 * n + 2] = part, parts[2 * n]
  end
  if sum > verb.capacity or (part + 1) * spec + verb.length <= now then
    return false
  end
  return packed("<Bc" .. #mark .. "HBI" .. width, width, mark, many, 0, newest), rest + width, sum, ends
end

-- Whether it was granted; then its outcome stands in `out`. One function, long as it is: a call of another takes as
-- long as three of its steps.
local function plain()
  if count == 0 then
    return false
  end
  local receipt, now, start, cell, many = KEYS[first_key], now, pos, 2, 0
  if receipts[receipt] or values[first_key] then
    return false
  end
  local key, here, text, base, span, flags, on_base, before, after, first
  for n = 1, count do
    local at, asked, amount, token
    at, asked, amount, token, start = unpacked("<HBdHc0", body, start)
    local place, line = first_key + 1 + at, lines[token] or line_of(token)
    if KEYS[place] ~= key then
      if key then -- what a policy's order names in turn is put down and taken up again
        text_of[here], span_of[here], before_of[here], after_of[here] = text, span, before, after
      end
      key, here = KEYS[place], 1
      while here <= many and key_of[here] ~= key do
        here = here + 1
      end
      if here <= many then
        text, span, before, after = text_of[here], span_of[here], before_of[here], after_of[here]
        base, flags, first = base_of[here], flags_of[here], first_of[here]
      else
        text = texts[key] or values[place]
        if not text or subjects[key] then
          return false
        end
        base, span, flags, on_base = unpacked("<I7BBB", text)
        if base > now or on_base == 255 or floor(base / SWEPT) ~= floor(now / SWEPT) then
          return false -- the clock is behind; or too many to tell; or it is time to look at all that lies there
        end
        text, before, after, many = sub(text, 11), 0, 0, here
        first = 1 + 9 * (flags % 64) + (flags >= 128 and 8 or 0)
        key_of[here], base_of[here], flags_of[here] = key, base, flags
        first_of[here], on_base_of[here] = first, on_base
      end
    end
    local mark, verb = line.mark, line.verb
    local found, from, kind = find(text, mark, first, true), first, verb.kind
    if not found or asked % 2 == 1 then
      return false
    end
    while from + 1 < found do
      from = from + length_at(text, from)
    end
    local a = byte(text, from)
    if from + 1 ~= found or a % 64 >= HELD then -- the same bytes by chance; or held, or written in an unusual way
      return false
    end
    local last = from + #mark
    local used, since, ends, rolling, shape = nil, nil, nil, nil, 0
    if kind == RATE then
      if a < 8 then
        used, since, before, after = unpacked(widths[a], text, last + 1), base, before + 1, after + 1
        last = last + a
      else
        used, since = unpacked(widths[a - 8] .. "I7", text, last + 1)
        last, after = last + a - 1, after + 1
      end
      local drain = verb.drain
      used = used - (now - since) * drain -- as in `Rate.take`, gcra.lua
      used = (used > 0 and used or 0) + amount * verb.spec
      if now < since or used > verb.brim then
        return false
      end
      since, ends = now, now + ceil(used / drain)
      if ends > FOREVER then
        ends = FOREVER
      end
    elseif kind == QUOTA then
      if byte(text, last + 1) ~= KEY.calendar then
        return false
      end
      local ninth = 9 * byte(text, last + 2) + first - 1 - 9 * (flags % 64)
      mark = sub(text, from + 1, last + 2)
      local known = sub(text, ninth - 8, ninth)
      local calendar = calendars[known] or calendar_of(known)
      used, since, ends, shape = unpacked(widths[a - 8], text, last + 3), calendar[2], calendar[3], 8
      last = last + a - 6
      if calendar[1] ~= verb.spec or now < since or now >= ends or used == 0 then
        return false
      end
      used = used + amount
      if used > verb.capacity then
        return false
      end
    elseif kind == TOTAL then
      if a < 8 then
        used, since, before = unpacked(widths[a], text, last + 1), base, before + 1
        last = last + a
      else
        used, since = unpacked(widths[a - 8] .. "I7", text, last + 1)
        last = last + a - 1
      end
      used, ends = used + amount, FOREVER
      if used > verb.capacity then
        return false
      end
      if since == now then
        after = after + 1
      else
        shape = 8
      end
    elseif kind == ROLLING then
      before, after = before + (a < 8 and 1 or 0), after + 1
      rolling, last, used, ends = rolled(verb, mark, text, last + 1, a, base, amount, cell)
      since = now
      if not rolling then
        return false
      end
    else
      return false
    end
    local width = used < 65536 and (used < 256 and 1 or 2) or width_of(used)
    local written = rolling
      or packed(formats[8 * #mark + width] or format_of(#mark, width), width + shape, mark, used)
    if kind == TOTAL and shape == 8 then
      written = written .. packed("<I7", since)
    end
    text = sub(text, 1, from - 1) .. written .. sub(text, last + 1)
    if ends - now > (reaches[span] or reach_of(span)) then
      span = lasting(ends - now, span)
    end
    out[cell + 1], out[cell + 2], out[cell + 3] = used, since, ends
    cell = cell + 3 + (rolling and 1 + 2 * out[cell + 4] or 0)
  end
  text_of[here], span_of[here], before_of[here], after_of[here] = text, span, before, after
  for n = 1, many do
    on_base = on_base_of[n]
    if base_of[n] == now then
      on_base = on_base + after_of[n] - before_of[n]
    elseif before_of[n] == on_base then
      on_base = after_of[n]
    else
      return false -- a `since` that was its base, of a window that is not asked for
    end
    text_of[n] = packed("<I7BBB", now, span_of[n], flags_of[n], min(on_base, 255)) .. text_of[n]
  end
  for n = 1, many do
    key = key_of[n]
    if not texts[key] then
      changed[#changed + 1] = key
    end
    texts[key] = text_of[n]
  end
  local ends = now + (lease > REPEAT and lease or REPEAT)
  if ends ~= receipts_end or now ~= receipts_now then
    receipts_end, receipts_now, receipts_text = ends, now, packed("<BI7I7", 1, now, ends)
    receipts_life = life_for(ends - now)
  end
  receipts[receipt] = receipts_text
  local last = #receipts_put
  receipts_put[last + 1], receipts_put[last + 2] = receipt, receipts_life
  out[1], out[2], size = 7, now, cell
  return true
end
