"""Between the calls of an event loop and the servers: what travels together, over which connection, for how long."""
