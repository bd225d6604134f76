-- Which command it is.
--
-- KEYS, ARGV: see call.lua and wire.lua.
-- Why: all that stands above is made when the first command comes that is not `plain`; this is what it is for.

-- What is said to the slots of a cluster is rare: it is made when it comes.
local moving

-- Decides the command at hand, and answers its outcome as it goes over the wire.
local function decide()
  size = 0
  if op == 1 then
    read_demands(first_key + 1, count, true)
    reserve()
  elseif op == 2 then
    read_demands(first_key, count)
    extend()
  elseif op == 3 then
    read_demands(first_key, count)
    settle()
  elseif op == 4 then
    read_demands(first_key + 1, count)
    cancel()
  elseif op == 5 then
    read_demands(first_key, count)
    look()
  elseif op == 8 then
    read_demands(first_key + 1, count, true)
    reserve(step)
  elseif op == 9 then
    read_demands(first_key + 1, count)
    cancel(true)
  elseif op == 14 then
    read_demands(first_key, count)
    reserve(nil, true)
  else
    moving = moving or movers()
    if not moving[op] then
      error("no command has the number " .. op)
    end
    moving[op]()
  end
  return told()
end

-- Writes what the commands have changed that came here. Holds first: if somebody else's data lies at their key, this
-- is where it fails, and nothing has been done.
local function put_all()
  for n = 1, #order do
    if order[n].changed then
      holds_put(order[n])
    end
  end
  for n = 1, #order do
    if order[n].dirty then
      subject_put(order[n])
    end
  end
  if sketches then
    sketches.put()
  end
  for key, put in pairs(outbox_puts) do
    if put then
      call("SET", key, put.text, "PX", put.life)
    else
      call("DEL", key)
    end
  end
end

return decide, put_all, subject_at
