"""The Lua scripts of producers. They share no parts, because apps in other languages copy them."""

from __future__ import annotations

from memory_worker.wire.lua import Scripts

scripts = Scripts(__name__)
