-- How many different things, each counted once however often it is named. Beside it: quota/things.py, whose bytes
-- these are and whose steps these are, operation by operation, so that both come to the same integer.
--
-- KEYS, ARGV: none are read here.
-- Why: a limit on different things (models, documents, addresses) needs to know what was named before. Who names
-- none pays for none of this: it is made when the first command of a call comes that does.
--
-- A sketch is a table that is never changed:
--   since    the instant of the balance beside which it counts
--   list     up to EXACT things, sorted, eight bytes each; or nil, and then
--   weight   the sum of what the registers weigh
--   key      under which the registers lie in Redis, nil for nowhere; read from there by and by, whole or in part
--   base     the registers as bytes, once somebody has read them or made them
--   raised   by its number from 0 each register that is not as in `base`
--   many     how many those are
--
-- Things are compared by their halves: strings are compared by the server's locale.

local frexp, ldexp, sqrt = math.frexp, math.ldexp, math.sqrt
local bor, band, rshift = bit.bor, bit.band, bit.rshift

local SIZE, EXACT, REGISTERS, HIGHEST = 8, 1000, 14300, 31
local EMPTY, HEAVIEST = 7, 549755813888 -- a register that nothing has reached, and what it weighs: 2^39
local WINDOWS = { [0] = 4.3, 2.06, 2.6, 1.07, 2.8, 1.36, 1.86, 0.52 }
local FIFTHS = { [0] = 1, 0.5743491774985174, 0.32987697769322355, 0.18946457081379972, 0.1088188204120155 }
local KNEE, STRAIGHT, BEND = 0.53, 0.4742, { 9.35, -35.482, 53.247, -38.956, 13.134, -0.003, 0.558 }
local FEW = 8 -- things whose registers are read one by one: 0.6 microseconds each, all of them take 5
local HEAD = 9 + 9 -- bytes before the registers, see sketches.lua

local none = { list = "" }
local weights, unions = {}, {} -- of registers, by value and by pair: what was computed in this call

-- How many things of a list come before this one, and whether it is there.
local function sought(list, high, low)
  local from, to = 0, #list / SIZE
  while from < to do
    local middle = floor((from + to) / 2)
    local first, second = unpacked(">I4I4", list, SIZE * middle + 1)
    if first == high and second == low then
      return middle, true
    elseif first < high or (first == high and second < low) then
      from = middle + 1
    else
      to = middle
    end
  end
  return from, false
end

local function registers_of(sketch)
  local base = sketch.base
  if not base then
    base = call("GETRANGE", sketch.key, HEAD, -1)
    sketch.base = base -- known from now on; it means the same
  end
  return base
end

local function register_of(sketch, spot)
  local base = sketch.base
  return sketch.raised[spot]
    or base and byte(base, spot + 1)
    or byte(call("GETRANGE", sketch.key, HEAD + spot, HEAD + spot))
end

-- All registers, from 1.
local function values_of(sketch)
  local base, values = registers_of(sketch), {}
  for at = 1, REGISTERS, 4 do
    values[at], values[at + 1], values[at + 2], values[at + 3] = byte(base, at, at + 3)
  end
  for spot, value in pairs(sketch.raised) do
    values[spot + 1] = value
  end
  return values
end

local function weight_of(value)
  local weight = weights[value]
  if not weight then
    local rank, window = floor(value / 8), value % 8
    weight = rank == 0 and HEAVIEST
      or floor(ldexp(WINDOWS[window] * FIFTHS[rank % 5], 39 - 4 * floor(rank / 5)) + 0.5)
    weights[value] = weight
  end
  return weight
end

-- A register that has seen what either has: the higher rank, and as much of the other as is within its window.
local function joined(one, other)
  local both = unions[256 * one + other]
  if not both then
    local high, low = max(one, other), min(one, other)
    both = bor(high, band(rshift(8 + low % 8, floor(high / 8) - floor(low / 8)), 7))
    unions[256 * one + other] = both
  end
  return both
end

-- A sketch that may be changed until somebody else knows of it.
local function copied_sketch(sketch)
  local raised = {}
  for spot, value in pairs(sketch.raised) do
    raised[spot] = value
  end
  return { weight = sketch.weight, raised = raised, many = sketch.many, key = sketch.key, base = sketch.base }
end

-- What has grown out of a sketch, once this register of it has changed: a copy, the first time.
local function raise(sketch, grown, spot, before, after)
  grown = grown == sketch and copied_sketch(sketch) or grown
  grown.weight = grown.weight + (weight_of(after) - weight_of(before))
  if not grown.raised[spot] then
    grown.many = grown.many + 1
  end
  grown.raised[spot] = after
  return grown
end

-- The sketch of registers with these things in it; the same one if that makes no difference.
local function raised_by(sketch, things)
  if #things > FEW * SIZE and not sketch.base then
    registers_of(sketch)
  end
  local grown = sketch
  for at = 1, #things, SIZE do
    local first, second = unpacked(">I4I4", things, at)
    local spot = floor(first * REGISTERS / 4294967296) -- below 2^46: exact
    local _, bits = frexp(floor(second / 4)) -- of 30 bits
    local before = register_of(grown, spot)
    local after = joined(before, 8 * (HIGHEST - bits))
    if after ~= before then
      grown = raise(sketch, grown, spot, before, after)
    end
  end
  return grown
end

local function by_thing(one, other)
  return one.high < other.high or (one.high == other.high and one.low < other.low)
end

-- The things that are not in a list, sorted, each with how many of the list come before it.
local function fresh_of(list, things)
  local fresh = {}
  for at = 1, #things, SIZE do
    local high, low = unpacked(">I4I4", things, at)
    local before, there = sought(list, high, low)
    if not there then
      fresh[#fresh + 1] = { high = high, low = low, before = before, thing = sub(things, at, at + SIZE - 1) }
    end
  end
  table.sort(fresh, by_thing)
  return fresh
end

-- The sketch of more things than a list has.
local function registered(things)
  local empty = { weight = REGISTERS * HEAVIEST, raised = {}, many = 0, base = rep(char(EMPTY), REGISTERS) }
  return raised_by(empty, things)
end

local function with_things(sketch, things)
  local list = sketch.list
  if not list then
    return raised_by(sketch, things)
  elseif #things > SIZE * EXACT then
    return registered(list .. things)
  end
  local fresh, text, done = fresh_of(list, things), {}, 0
  if #fresh == 0 then
    return sketch
  elseif #list / SIZE + #fresh > EXACT then
    return registered(list .. things)
  end
  for n = 1, #fresh do
    local before = SIZE * fresh[n].before
    text[2 * n - 1], text[2 * n], done = sub(list, done + 1, before), fresh[n].thing, before
  end
  return { list = table.concat(text) .. sub(list, done + 1) }
end

local function count_of(sketch)
  if sketch.list then
    return #sketch.list / SIZE
  end
  local y = sqrt(sqrt(sketch.weight / (REGISTERS * HEAVIEST)))
  local u = max(0, (y - KNEE) / (1 - KNEE))
  local bend = 0
  for n = 1, #BEND do
    bend = bend * u + BEND[n]
  end
  local curve = (1 - u) * (STRAIGHT * (1 + u) + u * u * bend)
  return floor(REGISTERS * curve / (y * y * y * y * y) + 0.5)
end

-- How many of the things would be new; of registers nobody can tell: all of them.
local function unseen(sketch, things)
  local list, many = sketch.list, #things / SIZE
  for at = 1, list and list ~= "" and #things or 0, SIZE do
    local high, low = unpacked(">I4I4", things, at)
    local _, there = sought(list, high, low)
    many = many - (there and 1 or 0)
  end
  return many
end

local function united_sketch(one, other)
  if one.list and not (other.list and #one.list >= #other.list) then
    one, other = other, one
  end
  if other.list then
    return with_things(one, other.list)
  end
  local mine, theirs, both = values_of(one), values_of(other), one
  for at = 1, REGISTERS do
    local after = joined(mine[at], theirs[at])
    if after ~= mine[at] then
      both = raise(one, both, at - 1, mine[at], after)
    end
  end
  return both
end
