"""The fast path's arithmetic, pure: values in, values out; the clock, ids and randomness are parameters.

In the order in which a request meets them: `facts` (what is known of it), `identify` (who calls), `match` and `owner`
(which limits apply, and whose value holds), `meter` (what is counted), `calendar`, `gcra` and `window` (how a limit's
window runs), `command` (what is said to a ledger), `balance`, `holds` and `ledger` (what was used and held, and how
that changes), `decision` (the verdict with its reasons), `explain`.
"""
