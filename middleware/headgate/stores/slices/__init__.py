"""Slices: a worker spends what it has charged beforehand, so that most requests need not ask the store."""

from __future__ import annotations

from headgate.stores.slices.store import SlicedStore

__all__ = ["SlicedStore"]
