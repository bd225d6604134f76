-- One subject's standing under one limit: what it has used and what is held for it. Beside it: quota/balance.py.
--
-- KEYS, ARGV: none are read here.
-- Why: the numbers and the one rule that all verbs share.
--
-- A balance is a table that is never changed once it is made, so that what was not granted can be dropped:
--   verb    the window that it was written under: kind, spec, and (of a rate) drain
--   used    units; of a rate, backlog in ticks
--   since   the instant that `used` speaks of, or the start of its window
--   ends    Python's `until`, which is a word of Lua's: from then on it is as good as untouched
--   parts   of a rolling window: {sub-window, units, sub-window, units, ...}, oldest first
--   holds   see holds.lua; nil for none

local SAFE = FOREVER
local CLOCK_SKEW = 5000000
local LATE = 600000000
local POLL = 1000000

-- Units that a balance written under another window hands on to the one that replaces it.
local function carried(balance, now)
  local used, verb = balance.used, balance.verb
  if now >= balance.ends or used == 0 or verb.kind == MAX then
    return 0
  end
  if verb.kind == RATE then
    -- [divide]; since < ends, for something is used. The product is at most `used`: now < ends.
    local drain = floor(used / (balance.ends - balance.since))
    return ceil((used - max(0, now - balance.since) * drain) / verb.spec)
  end
  return used
end

-- What `take` says, by the three steps that it consists of.
local function taken(verb, balance, amount, now)
  local used, since, ends, parts = verb:bring(balance, now)
  if amount <= verb:free(used) then
    return verb:put(used, since, ends, parts, amount, nil, now)
  end
end
