"""Commands whose places lie in several slots of a cluster, carried out by commands that each lie in one."""
