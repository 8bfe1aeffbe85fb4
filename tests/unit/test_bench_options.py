"""What is asked for, and mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from memory_worker.bench.options import PEERS, PHASES, Options
from memory_worker.commands.bench import own_names
from memory_worker.commands.main import main
from memory_worker.settings import load_settings


def test_our_own_paths_are_measured_unless_others_are_asked_for_and_peers_if_asked_for() -> None:
    everything = (*PHASES, *PEERS)
    assert [name for name in everything if Options().wants(name)] == list(PHASES)
    assert all(Options(peers=True).wants(name) for name in everything)
    only = Options(only=("drain", "arq"))
    assert [name for name in everything if only.wants(name)] == ["drain", "arq"]


@pytest.mark.parametrize(
    "arguments", [["--only", "pull"], ["--delay-ms", "-1"], ["--rounds", "0"], ["--points", "0"], ["--seconds", "0"]]
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
