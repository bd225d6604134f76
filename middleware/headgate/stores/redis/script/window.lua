-- `quota`, `rolling`, `max` and `total`. Beside it: quota/window.py, function by function.
--
-- KEYS, ARGV: none are read here.
-- Why: limits that count within a window, among the living, or for ever; calendars were worked out by the client.
--
-- A verb is a table made of a demand (see wire.lua): spec and capacity; of a quota edges and length, of a rolling
-- window its length. `free`, `put` and all the others take a standing as four values: used, since, ends, parts.

local Quota = { kind = QUOTA }
Quota.__index = Quota

function Quota:window(now)
  if self.length > 0 then
    return now, now + self.length
  end
  local edges = self.edges
  local at = 2
  while at < #edges - 1 and now >= edges[at + 1] do
    at = at + 1
  end
  if now < edges[2] then
    at = 1
  end
  return edges[at], edges[at + 1]
end

function Quota:bring(balance, now)
  if not balance then
    return 0, self:window(now)
  end
  local used, since, ends, verb = balance.used, balance.since, balance.ends, balance.verb
  if verb.spec ~= self.spec or verb.kind ~= QUOTA then
    return carried(balance, now), self:window(now)
  end
  if used == 0 and self.length > 0 then
    return 0, now, now + self.length -- not opened by its first unit yet
  end
  if now >= ends then
    local first, last = self:window(now)
    -- The gate's clock may lag behind the server's: a window that has ended does not open again.
    if last > ends then
      return 0, first, last
    end
    return used, since, ends
  end
  if now < since - CLOCK_SKEW then
    -- The clock was set back out of the window: it is held for one more length, then given up.
    return used, now, now + (ends - since)
  end
  return used, since, ends
end

function Quota:free(used)
  return self.capacity - used
end

function Quota:spent(used)
  return used
end

function Quota:put(used, since, ends, _, amount, holds, _)
  return { verb = self, used = min(used + amount, SAFE), since = since, ends = ends, holds = holds } -- [round]
end

function Quota:take(balance, amount, now)
  if not balance then
    return taken(self, balance, amount, now)
  end
  local used, since, ends, verb = balance.used, balance.since, balance.ends, balance.verb
  if used == 0 or now < since or now >= ends or verb.spec ~= self.spec or verb.kind ~= QUOTA then
    return taken(self, balance, amount, now)
  end
  used = used + amount -- [round]
  if used <= self.capacity then
    return { verb = self, used = used, since = since, ends = ends }
  end
end

function Quota:less(used, since, ends, parts, amount, charged, _)
  if charged >= since then
    used = max(0, used - amount)
  end
  return used, since, ends, parts
end

function Quota:join(used, since, ends, _, other, others_since, others_ends)
  if used == 0 or other == 0 then
    if used ~= 0 or other == 0 then
      return used, since, ends
    end
    return other, others_since, others_ends
  end
  if ends < others_ends then
    since, ends = others_since, others_ends
  end
  return min(used + other, SAFE), since, ends -- [round]
end

function Quota:ready(used, _, ends, _, need, now)
  return need <= self:free(used) and now or ends, 0
end

local Rolling = { kind = ROLLING }
Rolling.__index = Rolling

-- The parts and `amount` more at a sub-window. INVARIANT: sub-windows ascend; after a small step back the newest goes
-- on.
local function added(parts, at, amount)
  local more, many = {}, parts and #parts or 0
  for n = 1, many do
    more[n] = parts[n]
  end
  if many > 0 and parts[many - 1] >= at then
    more[many] = parts[many] + amount
  else
    more[many + 1], more[many + 2] = at, amount
  end
  return more
end

function Rolling:forgotten(part)
  return (part + 1) * self.spec + self.length -- an instant, some windows from now at most
end

-- The parts that still count; those a set-back clock left ahead fold into the present.
function Rolling:live(parts, now)
  local horizon, live, ahead = floor((now + CLOCK_SKEW) / self.spec), {}, 0
  for n = 1, #parts, 2 do
    if parts[n] > horizon then
      ahead = ahead + parts[n + 1]
    elseif self:forgotten(parts[n]) > now then
      live[#live + 1], live[#live + 2] = parts[n], parts[n + 1]
    end
  end
  return ahead > 0 and added(live, floor(now / self.spec), ahead) or live
end

function Rolling:bring(balance, now)
  if not balance then
    return 0, now, now
  end
  local used, since, ends, parts, verb = balance.used, balance.since, balance.ends, balance.parts, balance.verb
  local present = floor(now / self.spec)
  if verb.spec ~= self.spec or verb.kind ~= ROLLING then
    local units = carried(balance, now)
    if units == 0 then
      return 0, now, now
    end
    return units, now, self:forgotten(present), { present, units }
  end
  if now >= since or since > now + CLOCK_SKEW then
    since = now
  end
  if parts and #parts > 0 and (parts[#parts - 1] > present or self:forgotten(parts[1]) <= now) then
    parts, used = self:live(parts, now), 0
    for n = 2, #parts, 2 do
      used = used + parts[n]
    end
    ends = #parts > 0 and self:forgotten(parts[#parts - 1]) or now
  end
  return used, since, ends, parts
end

function Rolling:free(used)
  return self.capacity - used
end

function Rolling:spent(used)
  return used
end

function Rolling:put(used, since, _, parts, amount, holds, now)
  amount = min(amount, SAFE - used)
  if amount > 0 then
    parts = added(parts, floor(now / self.spec), amount)
  end
  local ends = parts and #parts > 0 and self:forgotten(parts[#parts - 1]) or now
  return { verb = self, used = used + amount, since = since, ends = ends, parts = parts, holds = holds }
end

function Rolling:take(balance, amount, now)
  if not balance or amount == 0 then
    return taken(self, balance, amount, now)
  end
  local parts, spec, verb = balance.parts, self.spec, balance.verb
  local many = parts and #parts or 0
  if
    verb.spec ~= spec or verb.kind ~= ROLLING or now < balance.since or many == 0
    or parts[many - 1] ~= floor(now / spec) or self:forgotten(parts[1]) <= now
  then
    return taken(self, balance, amount, now)
  end
  local used = balance.used + amount -- [round]
  if used <= self.capacity then
    local more = {}
    for n = 1, many - 1 do
      more[n] = parts[n]
    end
    more[many] = parts[many] + amount
    return { verb = self, used = used, since = now, ends = balance.ends, parts = more }
  end
end

function Rolling:less(used, since, ends, parts, amount, charged, _)
  local at, kept, back = floor(charged / self.spec), {}, 0
  for n = 1, parts and #parts or 0, 2 do
    local part, units = parts[n], parts[n + 1]
    if part == at then
      back = min(amount, units)
      units = units - back
    end
    if units > 0 then
      kept[#kept + 1], kept[#kept + 2] = part, units
    end
  end
  return used - back, since, ends, kept
end

function Rolling:join(used, since, ends, parts, other, others_since, others_ends, others_parts)
  local by_part, order = {}, {}
  for _, list in ipairs({ parts or {}, others_parts or {} }) do
    for n = 1, #list, 2 do
      if not by_part[list[n]] then
        order[#order + 1] = list[n]
      end
      by_part[list[n]] = (by_part[list[n]] or 0) + list[n + 1]
    end
  end
  table.sort(order)
  local union, sum = {}, used + other
  for _, part in ipairs(order) do
    union[#union + 1], union[#union + 2] = part, by_part[part]
  end
  if sum > SAFE then -- [round]. INVARIANT: `used` is the sum of the parts
    sum, union = SAFE, { union[#union - 1], SAFE }
  end
  return sum, max(since, others_since), max(ends, others_ends), union
end

function Rolling:ready(used, _, _, parts, need, now)
  local lacking = need - self:free(used)
  for n = 1, parts and #parts or 0, 2 do
    if lacking <= 0 then
      break
    end
    lacking = lacking - parts[n + 1]
    now = self:forgotten(parts[n])
  end
  return lacking <= 0 and now or FOREVER, 0
end

local Max = { kind = MAX }
Max.__index = Max

function Max:bring(_, now)
  return 0, now, now
end

function Max:free(_)
  return self.capacity
end

function Max:spent(_)
  return 0
end

function Max:put(_, _, _, _, _, holds, now)
  return { verb = self, used = 0, since = now, ends = now, holds = holds }
end

Max.take = taken

function Max:less(used, since, ends, parts)
  return used, since, ends, parts
end

function Max:join(used, since, ends, parts)
  return used, since, ends, parts
end

function Max:ready(_, _, _, _, _, now)
  return now + POLL, 0
end

local Total = { kind = TOTAL }
Total.__index = Total

function Total:bring(balance, now)
  if not balance then
    return 0, now, FOREVER
  end
  return balance.verb.kind == TOTAL and balance.used or carried(balance, now), balance.since, FOREVER
end

function Total:free(used)
  return self.capacity - used
end

function Total:spent(used)
  return used
end

function Total:put(used, since, _, _, amount, holds, _)
  return { verb = self, used = min(used + amount, SAFE), since = since, ends = FOREVER, holds = holds } -- [round]
end

function Total:take(balance, amount, now)
  if not balance or balance.verb.kind ~= TOTAL then
    return taken(self, balance, amount, now)
  end
  local used = balance.used + amount -- [round]
  if used <= self.capacity then
    return { verb = self, used = used, since = balance.since, ends = FOREVER }
  end
end

function Total:less(used, since, ends, parts, amount)
  return max(0, used - amount), since, ends, parts
end

function Total:join(used, since, _, _, other, others_since)
  return min(used + other, SAFE), min(since, others_since), FOREVER -- [round]
end

function Total:ready()
  return FOREVER, 0
end
