"""The Lua scripts of producers. ``clients/php/lua`` has them with their parts, for apps in other languages."""

from __future__ import annotations

from memory_worker.wire.lua import Scripts

scripts = Scripts(__name__)
