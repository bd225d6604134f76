-- What is known in one call of the script: constants, what lies at its keys, and what its commands name.
--
-- KEYS: 1 the overflow's key; then those of each command, in the commands' order: a receipt's key where it has one,
-- the keys of its subjects, an outbox where it has one. On a cluster those of the holds of all these subjects follow,
-- so that it knows all that the script may come to; they are made of the subjects' here.
-- ARGV: 1 flags ("" or "full"), 2 how many keys come before those of the holds; then one body for each command, see
-- wire.lua.
-- Why: the server runs all of this text anew for each call, and each function that is made costs half a microsecond.
-- So here stands only what every call needs; all else is made when the first command comes that needs it (see
-- run.lua).
--
-- How a subject lies in Redis. What costs a server most is each `redis.call` (a microsecond), and what costs memory
-- is each entry of a hash (eight bytes and the field's name). So a subject is one string, read once in a call and
-- written once, with all its windows packed as tightly as they go; a dozen take less than 160 bytes:
--
--   base    I7    the newest instant at which it was counted; it stands for every `since` that is equal to it
--   span    B     it is kept for 2^(span/4) milliseconds and `SLACK` from then on: the longest of its windows
--   flags   B     how many calendar windows follow, below 64; 128: so does `kept`
--   on_base B     how many balances have no `since` of their own because it is the base; 255: or more
--   kept    d     the instant up to which the hash of its holds is known to be kept
--   9 bytes for each calendar window: spec I4, since and length in quarters of an hour I3 I2
--   then the balances, each:
--     shape B     bits 0-2 the width of `used` (of units), 8: `since` is not the base and follows (or it is a quota,
--                 which has a window), 16: holds follow, 32: wide, see rows.lua
--     name  4     digest of the limit's id
--     key   1..   what it was written under (see rows.lua); a calendar window's number among those above
--     used, since I7, held due seen many dddd; of a rolling window instead of `used`: how many parts, H, and at the
--     end the parts
--
-- Its holds are the fields of one hash: name, rid. A receipt: granted B, at I7, until I7.
--
-- Numbers are doubles: whole ones are exact up to 2^53. Wherever an intermediate may be larger, the reason why that
-- does no harm stands beside it. Two facts serve again and again, for whole 0 <= a <= 2^53 and 1 <= b <= 2^53:
--   [round]  what is truly above 2^53 is computed as 2^53 at least, so that it compares and saturates as it should;
--   [divide] floor(a / b) and ceil(a / b) are exact: a / b is off by less than 1 / b, and no quotient that is not
--            whole lies as near to a whole number as that.

local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local byte, char, sub, rep, find = string.byte, string.char, string.sub, string.rep, string.find
local packed, unpacked, unpack, next = struct.pack, struct.unpack, unpack, next
local call, KEYS = redis.call, KEYS

local FOREVER = 9007199254740991 -- 2^53 - 1
local REPEAT = 10000000
local RATE, QUOTA, ROLLING, MAX, TOTAL = 1, 2, 3, 4, 5

local SLACK = 60000 -- milliseconds that a key outlives what it holds: clocks differ
local QUARTER = 900000000
local SWEPT = 1073741824 -- 2^30: about every 18 minutes a subject that is written is swept
local HELD = 16 -- of a shape

-- The numbers that the key of a balance begins with; the client makes them alike (lines.py).
local KEY = { rolling = 196, calendar = 245, window = 246, max = 247, total = 248 }
local DRAIN_WIDTHS = { [0] = 0, 1, 3, 7 }

local full = ARGV[1] == "full"
local values -- what lies at KEYS, in their order
local texts, changed = {}, {} -- subjects that this call has changed, as they are to lie in Redis, by key; these keys
local subjects, order = {}, {} -- by key those that were taken apart (rows.lua), and in the order in which they were
local receipts = {} -- by key, as they are from now on; false for none
local receipts_put = {} -- those that are to be written: key, life, key, life
local forms, formats, lines, lives, wholes = {}, {}, {}, {}, {}
local overflow -- the subject, where it has to be looked at
local sketches -- what counts different things, once a command has named some; see sketches.lua

-- The command at hand: its body and how far it is read, the number of its first key, its head, and its demands side
-- by side. One set of lists serves all commands.
local body, pos, first_key, op, keys, now, lease, step, rid, count
local subject_of, amount_of = {}, {}
local out, size = {}, 0 -- its outcome, as integers

-- How the bytes of a balance stand whose shape and key begin with these two.
local function formed(a, b)
  local kind, key = b == KEY.max and MAX or TOTAL, 1
  if b < KEY.rolling then
    kind, key = RATE, 1 + floor(b / 28) + 1 + DRAIN_WIDTHS[b % 4]
  elseif b < KEY.calendar then
    kind, key = ROLLING, 1 + floor((b - KEY.rolling) / 7) + 1
  elseif b <= KEY.window then
    kind, key = QUOTA, b == KEY.calendar and 2 or 25
  end
  local form = { kind = kind, key = key, width = a % 8, holds = a % 32 >= HELD, wide = a % 64 >= 32 }
  form.since = kind ~= QUOTA and a % 16 >= 8
  form.format = "<" .. (kind == ROLLING and "H" or "I" .. form.width)
    .. (form.since and "I7" or "") .. (form.holds and "dddd" or "")
  form.fixed = 5 + key + (kind == ROLLING and 2 or form.width)
    + (form.since and 7 or 0) + (form.holds and 32 or 0) + (form.wide and kind ~= ROLLING and 8 or 0)
  form.each = form.wide and 16 or 1 + form.width
  forms[a * 256 + b] = form
  return form
end

-- How many bytes a balance has that begins here.
local function length_at(text, at)
  local a, _, _, _, _, b = byte(text, at, at + 5)
  local form = forms[a * 256 + b] or formed(a, b)
  if form.kind == ROLLING then
    local many = unpacked("<H", text, at + 5 + form.key)
    return form.fixed + (many > 0 and many * form.each or form.wide and 8 or 0)
  end
  return form.fixed
end

-- A limit's name and its window as the client wrote them; see wire.lua.
local function line_of(text)
  local name, kind, at = unpacked("<c4B", text)
  local verb = { kind = kind, spec = 0 }
  if kind == RATE then
    verb.key, verb.spec, verb.drain, verb.brim = unpacked("<Bc0ddd", text, at)
    verb.capacity = floor(verb.brim / verb.spec) -- without a rest
  elseif kind == QUOTA then
    verb.spec, verb.capacity, verb.length, at = unpacked("<ddd", text, at)
    verb.edges = at -- where they stand, until somebody asks for them
  elseif kind == ROLLING then
    verb.key, verb.length, verb.spec, verb.capacity = unpacked("<Bc0ddd", text, at)
  else
    verb.key, verb.capacity = char(kind == MAX and KEY.max or KEY.total), unpacked("<d", text, at)
  end
  local line = { name = name, verb = verb, text = text, mark = name .. (verb.key or "") }
  lines[text] = line
  return line
end

-- So many integers, little-endian.
local function integers(from, to)
  local many = to - from + 1
  local format = wholes[many]
  if not format then
    format = "<" .. rep("i8", many)
    wholes[many] = format
  end
  return packed(format, unpack(out, from, to))
end

-- The `span` of a key that is to be kept for so long (microseconds) and for no less than `span` says.
local function lasting(microseconds, span)
  if microseconds > 1000 then
    return max(span, ceil(4 * math.log(microseconds / 1000) / math.log(2)))
  end
  return span
end

-- How long a key is kept that is needed for so long (microseconds): milliseconds as text.
local function life_for(microseconds)
  return string.format("%.0f", max(0, ceil(microseconds / 1000)) + SLACK)
end

-- The same for a span.
local function life_of(span)
  local text = lives[span]
  if not text then
    text = life_for(1000 * 2 ^ (span / 4))
    lives[span] = text
  end
  return text
end
