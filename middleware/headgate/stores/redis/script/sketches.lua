-- How sketches lie in Redis, and which of them counts.
--
-- KEYS: on a cluster those of the sketches that a command may come to are named behind those of the holds; they are
-- made of the subjects' here.
-- ARGV: none are read here.
-- Why: a sketch is a hundred times as long as a balance, so it has a key of its own, and only what is needed of it is
-- read and written: 114 bytes tell how many things it has, and three bytes each are what a thing changes.
--
-- A sketch's key is its subject's (hg: hd, ho: hl) and the limit's name. There lies: kind B (1: a list, 2: registers),
-- since d, and the bytes that quota/things.py tells. It is kept as long as the balance counts beside which it lies.

local LIST, SKETCH = 1, 2
local PATCHED = 64 -- groups that are written one by one: half a microsecond each, the whole takes ten

local sketches_at, sketches_put = {}, {} -- by key: as they are from now on, false for none; how long to keep those
-- that are to be written

local function sketch_key(subject, name)
  local key = subject.key
  return char(byte(key, 1), byte(key, 2) - 3) .. sub(key, 3) .. name
end

-- The sketch of such bytes.
local function sketch_of(since, data)
  if #data <= SIZE * EXACT then
    return { since = since, list = data }
  end
  return {
    since = since, counts = { unpacked(">" .. rep("H", HIGHEST + 1), data, 2) }, raised = {}, many = 0,
    base = #data >= HEAD and sub(data, HEAD - 8) or nil,
  }
end

-- What lies there, whether it counts or not; nil for nothing.
local function sketch_at(subject, name)
  local key = sketch_key(subject, name)
  local sketch = sketches_at[key]
  if sketch == nil then
    local text = call("GETRANGE", key, 0, HEAD - 1)
    if text == "" then
      sketch = false
    else
      local kind, since = unpacked("<Bd", text)
      if kind == LIST then
        text = #text == HEAD and call("GET", key) or text
        sketch = { since = since, list = sub(text, 10) }
      else
        local counts = { unpacked(">" .. rep("H", HIGHEST + 1), text, 11) }
        sketch = { since = since, counts = counts, raised = {}, many = 0, key = key }
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
    lying.counts, lying.raised, lying.many, lying.key = sketch.counts, sketch.raised, sketch.many, sketch.key
    if sketch.key ~= key then
      lying.key, lying.base = nil, registers_of(sketch)
    else
      lying.base = sketch.base
    end
  end
  sketches_at[key], sketches_put[key] = lying, life
end

local function sketch_head(sketch)
  return packed("<B", 1) .. packed(">" .. rep("H", HIGHEST + 1), unpack(sketch.counts, 1, HIGHEST + 1))
end

-- All bytes of a sketch.
local function bytes_of(sketch)
  if sketch.list then
    return sketch.list
  end
  local base, raised, text, from = registers_of(sketch), sketch.raised, { sketch_head(sketch) }, 0
  for group = 0, REGISTERS / 4 - 1 do
    local four = raised[group]
    if four then
      text[#text + 1], text[#text + 2] = sub(base, 3 * from + 1, 3 * group), packed(">I3", four)
      from = group + 1
    end
  end
  text[#text + 1] = sub(base, 3 * from + 1)
  return table.concat(text)
end

local function sketches_written()
  for key, life in pairs(sketches_put) do
    local sketch = sketches_at[key]
    if not sketch then
      call("DEL", key)
    elseif sketch.key and sketch.many <= PATCHED then
      call("SETRANGE", key, 0, packed("<Bd", SKETCH, sketch.since) .. sketch_head(sketch))
      for group, four in pairs(sketch.raised) do
        call("SETRANGE", key, HEAD + 3 * group, packed(">I3", four))
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
