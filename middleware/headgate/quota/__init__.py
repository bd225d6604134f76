"""The fast path's arithmetic, pure: values in, values out; the clock, ids and randomness are parameters.

In the order in which a request meets them: `facts` (what is known of it), `identify` (who calls), `match`
(which limits apply), `meter` (what is counted), `gcra` and `window` (how a limit's window runs), `balance`,
`holds` and `ledger` (what was used and held), `decision` (the verdict with its reasons), `explain`.
"""
