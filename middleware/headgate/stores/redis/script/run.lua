-- The call: all that it names is read, the commands are decided one after the other, all that has changed is written.
--
-- KEYS, ARGV: see call.lua and wire.lua.
-- Why: nothing is written before everything is decided, so that a call that fails has done nothing; and a subject
-- that many commands of a call name is read and written once.

local reads = tonumber(ARGV[2])
values = {}
for from = 1, reads, 4000 do -- Lua's stack takes 8,000
  local some = call("MGET", unpack(KEYS, from, min(from + 3999, reads)))
  if from == 1 then
    values = some
  else
    for n = 1, #some do
      values[from + n - 1] = some[n]
    end
  end
end

local decide, put_all, subject_of_overflow
if full or values[1] then
  decide, put_all, subject_of_overflow = general()
  overflow = subject_of_overflow(1)
end

local replies, clock = {}, nil
first_key = 2
for n = 3, #ARGV do
  body = ARGV[n]
  op, keys, now, lease, step, rid, count, pos = unpacked("<BHdddBc0H", body)
  if now < 0 then
    if not clock then
      local time = call("TIME")
      clock = time[1] * 1000000 + time[2]
    end
    now = clock
  end
  if op == 1 and not overflow and plain() then
    replies[n - 2] = integers(1, size)
  else
    if not decide then
      decide, put_all = general()
    end
    replies[n - 2] = decide()
  end
  first_key = first_key + keys
end

if put_all then
  put_all()
end
for n = 1, #changed do
  local key = changed[n]
  local subject, text = subjects[key], texts[key]
  if not (subject and subject.dirty) then
    call("SET", key, text, "PX", life_of(byte(text, 8)))
  end
end
for n = 1, #receipts_put, 2 do
  local key = receipts_put[n]
  if receipts[key] then
    call("SET", key, receipts[key], "PX", receipts_put[n + 1])
  else
    call("DEL", key)
  end
end
return replies
