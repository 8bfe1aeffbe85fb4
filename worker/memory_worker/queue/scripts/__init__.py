"""The Lua scripts of the worker's side of the queue."""

from __future__ import annotations

from memory_worker.wire.lua import Scripts

scripts = Scripts(__name__)
