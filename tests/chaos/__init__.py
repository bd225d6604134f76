"""The promises of docs/promises.md under faults, against real servers and with real processes."""
