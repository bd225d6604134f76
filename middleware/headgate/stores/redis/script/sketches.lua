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

-- What of it counts beside a balance that is brought to now: with the window that it was made in, and no longer.
local function counted(sketch, verb, used, since)
  if sketch and sketch.since == begun(verb, since) and used > 0 and (verb.kind == QUOTA or verb.kind == TOTAL) then
    return sketch
  end
  return none
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
  things = things_at, read = read_things, none = none, at = sketch_at, of = sketch_of, begun = begun, counted = counted, unseen = unseen, with = with_things,
  united = united_sketch, count = count_of, draw = draw, bytes = bytes_of, put = sketches_written,
}
