"""Quotas per key, per org and per group of linked accounts, for ASGI apps."""
