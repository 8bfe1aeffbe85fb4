"""Properties get no deadline of their own: a busy machine is no counterexample, and every test has a timeout."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", deadline=None, print_blob=True)
settings.load_profile("unit")
