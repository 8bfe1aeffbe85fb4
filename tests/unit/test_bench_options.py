"""What is asked for, and mistakes in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from memory_worker.bench.options import EXTRAS, PEERS, PHASES, Options
from memory_worker.commands.bench import own_names
from memory_worker.commands.main import main
from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.settings import Settings, load_settings


def test_our_own_paths_are_measured_unless_others_are_asked_for_and_peers_if_asked_for() -> None:
    everything = (*PHASES, *PEERS)
    assert [name for name in everything if Options().wants(name)] == list(PHASES)
    assert all(Options(peers=True).wants(name) for name in everything)
    only = Options(only=("drain", "arq"))
    assert [name for name in everything if only.wants(name)] == ["drain", "arq"]
    assert [name for name in EXTRAS if Options(also=("timeline",), peers=True).wants(name)] == ["timeline"]


def test_several_numbers_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def measure(_: Settings, options: Options, *__: object, **changed: Any) -> None:
        seen.append((options, changed["changed"]))
        raise MemoryWorkerError("enough")

    monkeypatch.setattr("memory_worker.commands.bench.measure", measure)
    urls = {"REDIS_URL": "redis://:secret@127.0.0.1:1", "QDRANT_URL": "http://127.0.0.1:1", "QDRANT_API_KEY": "secret"}
    given = {"QDRANT_HNSW_M": "0", "LOG_LEVEL": "INFO", "QUEUE_PREFIX": "other"}
    arguments = ["bench", "--concurrency", "8,16", "--rates", "0.5,100", "--also", "timeline"]
    assert CliRunner().invoke(main, arguments, env={**urls, **given}).exit_code == 1
    assert CliRunner().invoke(main, ["bench"], env=urls).exit_code == 1
    (options, changed), (defaults, nothing) = seen
    assert (options.concurrency, options.rates, options.also) == ((8, 16), (0.5, 100), ("timeline",))
    assert (defaults, nothing) == (Options(), {})
    assert changed == {"QDRANT_HNSW_M": "0"}  # neither secrets and servers, nor names of its own


@pytest.mark.parametrize(
    "arguments",
    [
        ["--only", "pull"],
        ["--delay-ms", "-1"],
        ["--rounds", "0"],
        ["--points", "0"],
        ["--rates", "9,0"],
        ["--concurrency", "8,x"],
    ],
)
def test_wrong_options_are_named_and_end_with_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["bench", *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.output


@pytest.mark.parametrize(
    ("prefix", "start"),
    [("mw", "mw"), ("a.b", "a.b"), ("x" * 64, "x" * 48), ("a.{mw}", "{mw}"), (f"{{{'x' * 62}}}", f"{{{'x' * 46}}}")],
)
def test_keys_and_collections_are_named_after_the_deployment(prefix: str, start: str, tmp_path: Path) -> None:
    names = own_names(prefix)
    settings = load_settings(data_dir=tmp_path, **names)
    assert settings.queue_prefix.startswith(f"{start}-bench-")
    assert own_names(prefix)["queue_prefix"] != settings.queue_prefix


def test_a_kinds_file_does_not_lead_a_benchmark_to_the_collections_of_the_deployment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "kinds.toml"
    file.write_text('[memory]\ncollection = "precious"\n[document]\n[note]\ncollection = "dear"\nid_prefix = "note"\n')
    monkeypatch.setenv("KINDS_FILE", str(file))
    assert "precious" in {kind.collection for kind in load_settings().kinds.values()}
    settings = load_settings(**own_names("mw"))
    assert all(kind.collection.startswith("mw-bench-") for kind in settings.kinds.values())
