-- How sketches lie in Redis, and which of them counts.
--
-- KEYS: on a cluster those of the sketches that a command may come to are named behind those of the holds; they are
-- made of the subjects' here.
-- ARGV: none are read here.
-- Why: a sketch is a hundred times as long as a balance, so it has a key of its own, and only what is needed of it is
-- read and written: 18 bytes tell how many things it has, and one byte each is what a thing changes.
--
-- A sketch's key is its subject's (hg: hd, ho: hl) and the limit's name. There lies: kind B (1: a list, 2: registers),
-- since d, and the bytes that quota/things.py tells. It is kept as long as the balance counts beside which it lies.

local LIST, SKETCH = 1, 2
local READ = 113 -- bytes that are read first: no more time than 18, and they may be all of a list of 13 things
local PATCHED = 512 -- registers that are written one by one: a microsecond each, the whole takes 700

local sketches_at, sketches_put = {}, {} -- by key: as they are from now on, false for none; how long to keep those
-- that are to be written

local function sketch_key(subject, name)
  local key = subject.key
  return char(byte(key, 1), byte(key, 2) - 3) .. sub(key, 3) .. name
end

local function weight_in(text, at)
  local high, low = unpacked(">I4I4", text, at)
  return high * 4294967296 + low -- below 2^53: exact
end

-- The sketch of such bytes.
local function sketch_of(since, data)
  if #data <= SIZE * EXACT then
    return { since = since, list = data }
  end
  return {
    since = since, weight = weight_in(data, 2), raised = {}, many = 0, base = sub(data, HEAD - 8),
  }
end

-- What lies there, whether it counts or not; nil for nothing.
local function sketch_at(subject, name)
  local key = sketch_key(subject, name)
  local sketch = sketches_at[key]
  if sketch == nil then
    local text = call("GETRANGE", key, 0, READ - 1)
    if text == "" then
      sketch = false
    else
      local kind, since = unpacked("<Bd", text)
      if kind == LIST then
        text = #text == READ and call("GET", key) or text
        sketch = { since = since, list = sub(text, 10) }
      else
        sketch = { since = since, weight = weight_in(text, 11), raised = {}, many = 0, key = key }
      end
    end
    sketches_at[key] = sketch
  end
  return sketch or nil
end

-- When the window began that a sketch belongs to; 0 for a lifetime.
local function begun(verb, since)
  return verb.kind == TOTAL and 0 or since
end

local function windowed(verb)
  return verb.kind == QUOTA or verb.kind == TOTAL
end

local function other_window(balance, verb)
  return balance.verb.spec ~= verb.spec or balance.verb.kind ~= verb.kind
end

-- What of it counts beside a balance as it lies there, which a verb has brought to now. Usage that another window takes
-- over takes its sketch with it.
local function counted(sketch, balance, verb, used, since)
  if not sketch or not balance or used == 0 or not windowed(verb) or not windowed(balance.verb) then
    return none
  end
  if not other_window(balance, verb) then
    return sketch.since == begun(verb, since) and sketch or none
  end
  local carries = balance.used > 0 and now < balance.ends and sketch.since == begun(balance.verb, balance.since)
  return carries and sketch or none
end

-- A balance is going to lie under another window: the sketch that counts beside it goes with it. On a cluster its key
-- may not have been named; while the slot is on its way to another node, things are then charged again.
local function carry(subject, name, before, after)
  if before and not after.sketch and other_window(before, after.verb) and after.used > 0 then
    local sketch = counted(sketch_at(subject, name), before, after.verb, after.used, after.since)
    after.sketch = sketch ~= none and sketch or nil
  end
end

-- A balance has come to lie there with its sketch: that lies there from now on, or nothing if it has no things.
local function draw(subject, name, balance)
  local key, life, sketch = sketch_key(subject, name), life_for(balance.ends - now), balance.sketch
  balance.sketch = nil
  if sketch.list == "" then
    if sketch_at(subject, name) then
      sketches_at[key], sketches_put[key] = false, life
    end
    return
  end
  local lying = { since = begun(balance.verb, balance.since), list = sketch.list }
  if not sketch.list then
    lying.weight, lying.raised, lying.many, lying.key = sketch.weight, sketch.raised, sketch.many, sketch.key
    if sketch.key ~= key then
      lying.key, lying.base = nil, registers_of(sketch)
    else
      lying.base = sketch.base
    end
  end
  sketches_at[key], sketches_put[key] = lying, life
end

local function sketch_head(sketch)
  return packed(">BI4I4", 1, floor(sketch.weight / 4294967296), sketch.weight % 4294967296)
end

-- All bytes of a sketch.
local function bytes_of(sketch)
  if sketch.list then
    return sketch.list
  elseif not next(sketch.raised) then
    return sketch_head(sketch) .. registers_of(sketch)
  end
  local values, text = values_of(sketch), { sketch_head(sketch) }
  for at = 1, REGISTERS, 100 do
    text[#text + 1] = char(unpack(values, at, at + 99)) -- a hundred fit on the stack
  end
  return table.concat(text)
end

local function sketches_written()
  for key, life in pairs(sketches_put) do
    local sketch = sketches_at[key]
    if not sketch then
      call("DEL", key)
    elseif sketch.key and sketch.many <= PATCHED then
      call("SETRANGE", key, 0, packed("<Bd", SKETCH, sketch.since) .. sketch_head(sketch))
      for spot, value in pairs(sketch.raised) do
        call("SETRANGE", key, HEAD + spot, char(value))
      end
      call("PEXPIRE", key, life)
    else
      local head = packed("<Bd", sketch.list and LIST or SKETCH, sketch.since)
      call("SET", key, head .. bytes_of(sketch), "PX", life)
    end
  end
end

-- What a demand names, where it names any.
local things_at = {}

local function read_things(n, any)
  things_at[n] = nil
  if any then
    things_at[n], pos = unpacked("<I4c0", body, pos)
  end
end

return {
  things = things_at, read = read_things, none = none, at = sketch_at, of = sketch_of, begun = begun,
  counted = counted, carry = carry, other_window = other_window, unseen = unseen, with = with_things,
  united = united_sketch, count = count_of, draw = draw, bytes = bytes_of, put = sketches_written,
}
