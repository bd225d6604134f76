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
--   counts   how many registers have the value v, at v + 1
--   key      under which the registers lie in Redis, nil for nowhere; read from there by and by, whole or in part
--   base     the registers as bytes, once somebody has read them or made them
--   raised   by its number each group of four registers that is not as in `base`: its three bytes as a number
--   many     how many those are
--
-- Things are compared by their halves: strings are compared by the server's locale.

local frexp, sqrt = math.frexp, math.sqrt

local SIZE, EXACT, REGISTERS, HIGHEST = 8, 1000, 16384, 51
local NUMERATOR = 0.7213475204444817 * REGISTERS * REGISTERS
local LEFT = { 262144, 4096, 64, 1 } -- what one of four registers counts within its group
local FEW = 8 -- things whose registers are read one by one: 0.6 microseconds each, all of them take 5
local HEAD = 9 + 105 -- bytes before the registers, see sketches.lua

local none = { list = "" }

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

-- Four registers as one number.
local function group_of(sketch, group)
  local four = sketch.raised[group]
  if four then
    return four
  end
  local base = sketch.base
  if base then
    return (unpacked(">I3", base, 3 * group + 1))
  end
  local at = HEAD + 3 * group
  return (unpacked(">I3", call("GETRANGE", sketch.key, at, at + 2)))
end

-- A sketch that may be changed until somebody else knows of it.
local function copied_sketch(sketch)
  local counts, raised = {}, {}
  for value = 1, HIGHEST + 1 do
    counts[value] = sketch.counts[value]
  end
  for group, four in pairs(sketch.raised) do
    raised[group] = four
  end
  return { counts = counts, raised = raised, many = sketch.many, key = sketch.key, base = sketch.base }
end

-- Of a copied sketch one group is now this number.
local function raise(sketch, group, four)
  if not sketch.raised[group] then
    sketch.many = sketch.many + 1
  end
  sketch.raised[group] = four
end

-- The sketch of registers with these things in it; the same one if that makes no difference.
local function raised_by(sketch, things)
  if #things > FEW * SIZE and not sketch.base then
    registers_of(sketch)
  end
  local grown = sketch
  for at = 1, #things, SIZE do
    local high, low = unpacked(">I4I4", things, at)
    local spot = floor(high / 262144)
    local _, bits = frexp(high % 262144 * 4294967296 + low) -- of 50 bits: exact
    local rank, group, left = HIGHEST - bits, floor(spot / 4), LEFT[spot % 4 + 1]
    local four = group_of(grown, group)
    local before = floor(four / left) % 64
    if rank > before then
      grown = grown == sketch and copied_sketch(sketch) or grown
      local counts = grown.counts
      counts[before + 1], counts[rank + 1] = counts[before + 1] - 1, counts[rank + 1] + 1
      raise(grown, group, four + (rank - before) * left)
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
  local counts = { REGISTERS }
  for value = 2, HIGHEST + 1 do
    counts[value] = 0
  end
  return raised_by({ counts = counts, raised = {}, many = 0, base = rep("\0", REGISTERS * 6 / 8) }, things)
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

-- What registers that nothing has reached add to the estimate, and what full ones do.
local function sigma(x)
  local y, z, before = 1, x, -1
  while z ~= before do
    x = x * x
    before = z
    z = z + x * y
    y = y + y
  end
  return z
end

local function tau(x)
  if x == 0 or x == 1 then
    return 0
  end
  local y, z, before = 1, 1 - x, -1
  while z ~= before do
    x = sqrt(x)
    before = z
    y = 0.5 * y
    local rest = 1 - x
    z = z - rest * rest * y
  end
  return z / 3
end

local function count_of(sketch)
  if sketch.list then
    return #sketch.list / SIZE
  end
  local counts = sketch.counts
  local z = REGISTERS * tau(1 - counts[HIGHEST + 1] / REGISTERS)
  for rank = HIGHEST - 1, 1, -1 do
    z = 0.5 * (z + counts[rank + 1])
  end
  z = z + REGISTERS * sigma(counts[1] / REGISTERS)
  return floor(NUMERATOR / z + 0.5)
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
  registers_of(one)
  registers_of(other)
  local both = one
  for group = 0, REGISTERS / 4 - 1 do
    local mine, theirs = group_of(one, group), group_of(other, group)
    if mine ~= theirs then
      local four = mine
      for n = 1, 4 do
        local left = LEFT[n]
        local before, rank = floor(mine / left) % 64, floor(theirs / left) % 64
        if rank > before then
          both = both == one and copied_sketch(one) or both
          local counts = both.counts
          counts[before + 1], counts[rank + 1] = counts[before + 1] - 1, counts[rank + 1] + 1
          four = four + (rank - before) * left
        end
      end
      if four ~= mine then
        raise(both, group, four)
      end
    end
  end
  return both
end
