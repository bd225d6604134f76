"""The ledger in Lua: the script, and how commands and outcomes are written for it and read."""
