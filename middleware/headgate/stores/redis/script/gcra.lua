-- `rate: 60/min`: the generic cell rate algorithm as a leaky bucket of ticks. Beside it: quota/gcra.py.
--
-- KEYS, ARGV: none are read here.
-- Why: a rate's numbers come near 2^53 in the ordinary course of things, the others' do not.
--
-- A rate is a table made of a demand (see wire.lua): spec (ticks to the unit), drain, brim, capacity.

local Rate = { kind = RATE }
Rate.__index = Rate

-- When a backlog will have drained. [divide]; the sum is below 2^54, and cut off where it is not exact.
function Rate:empty(ticks, since)
  return min(since + ceil(ticks / self.drain), FOREVER)
end

function Rate:bring(balance, now)
  if not balance then
    return 0, now, now
  end
  local used, since, verb = balance.used, balance.since, balance.verb
  if verb.spec ~= self.spec or verb.kind ~= RATE then
    -- At most `brim`, which is no more than 2^53.
    local ticks = min(carried(balance, now), self.capacity) * self.spec
    return ticks, now, self:empty(ticks, now)
  end
  if now < since then
    -- A small step back is waited for; after a large one the backlog drains from here.
    since = now >= since - CLOCK_SKEW and since or now
    return used, since, self:empty(used, since)
  end
  -- The product may be anything: above 2^53 it is above `used` [round], and nothing is left either way.
  return max(used - (now - since) * self.drain, 0), now, balance.ends
end

function Rate:free(used)
  return floor((self.brim - used) / self.spec) -- [divide], and between -2^53 and 2^53
end

function Rate:spent(used)
  return ceil(used / self.spec)
end

function Rate:put(used, since, _, _, amount, holds, _)
  local ticks = min(used + amount * self.spec, SAFE) -- [round], whatever `amount` is
  return { verb = self, used = ticks, since = since, ends = self:empty(ticks, since), holds = holds }
end

function Rate:take(balance, amount, now)
  if not balance then
    return taken(self, balance, amount, now)
  end
  local since, verb = balance.since, balance.verb
  if now < since or verb.spec ~= self.spec or verb.kind ~= RATE then
    return taken(self, balance, amount, now)
  end
  local drain = self.drain
  local ticks = balance.used - (now - since) * drain -- as in `bring`
  ticks = (ticks > 0 and ticks or 0) + amount * self.spec -- [round]: above 2^53 is above the brim
  if ticks <= self.brim then
    local ends = now + ceil(ticks / drain)
    return { verb = self, used = ticks, since = now, ends = ends < FOREVER and ends or FOREVER }
  end
end

function Rate:less(used, since, ends, parts, amount, charged, now)
  -- Both products may pass 2^53 only where the backlog cannot: then [round] leaves 0 or all of it.
  local undrained = max(0, amount * self.spec - max(0, now - charged) * self.drain)
  return max(0, used - undrained), since, ends, parts
end

function Rate:join(used, since, _, _, other, later)
  local ticks, at = min(used + other, SAFE), max(since, later)
  return ticks, at, self:empty(ticks, at)
end

-- Two numbers whose sum is the instant: of a backlog near 2^53 the sum would not be exact, and the client adds.
function Rate:ready(used, since, _, _, need, _)
  local excess = used - (self.brim - need * self.spec) -- need <= capacity: each step is exact
  return since, ceil(max(0, excess) / self.drain)
end
