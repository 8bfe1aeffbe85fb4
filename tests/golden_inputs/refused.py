"""Calls that are refused."""

from __future__ import annotations

from tests.golden_inputs.writes import UPSERT, Call

REFUSED: dict[str, list[Call]] = {
    "default": [
        ("user_id of 0", "upsert", {**UPSERT, "user_id": 0}),
        ("point id of another user", "upsert", {**UPSERT, "point_id": "mem_1731_1"}),
        ("vector of another dimension", "upsert", {**UPSERT, "vector": [1, 2, 3]}),
        ("vector with NaN", "upsert", {**UPSERT, "vector": [1, {"number": "nan"}, 0, 0]}),
    ],
}
