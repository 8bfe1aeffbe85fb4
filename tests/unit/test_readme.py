"""The README and .env.example say what is so: settings, commands, links, files, and the Python in it."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
import pytest
from click.testing import CliRunner

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.commands import settings_reference
from memory_worker.commands.main import COMMANDS, main
from memory_worker.contract import CONTRACT_VERSION
from memory_worker.contract.kinds import KINDS, Kind
from memory_worker.settings import Settings
from memory_worker.wire.arq_records import decode_arq
from memory_worker.wire.drain_job import DRAIN_JOB_LIFE_MS, drain_job
from memory_worker.wire.keys import Keys
from memory_worker.wire.meta import DEFAULT_PARTITIONS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ENV_EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROSE = FENCED.sub("", README)
TOP_LEVEL = ("worker/", "tests/", "deploy/", ".ci/")


def blocks(language: str) -> list[str]:
    return [body for name, body in FENCED.findall(README) if name == language]


def commands() -> Iterator[str]:
    """Yield what stands in code behind ``memory-worker``, up to whatever ends a command."""
    code = [*(body for _, body in FENCED.findall(README)), *re.findall(r"`([^`\n]+)`", PROSE)]
    for piece in code:
        for rest in re.findall(r"memory-worker +([a-z][^\n`#&;]*)", piece):
            yield rest.replace("\\|", "|").strip()


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(kept.replace(" ", "-"))
    return found


def test_the_table_of_settings_is_that_of_the_class() -> None:
    assert settings_reference.with_table(README) == README, (
        "run python -m memory_worker.commands.settings_reference --write"
    )


def test_the_env_example_is_that_of_the_class() -> None:
    assert settings_reference.env_file() == ENV_EXAMPLE, (
        "run python -m memory_worker.commands.settings_reference --write"
    )


def test_the_env_example_sets_nothing_and_its_values_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [line for line in ENV_EXAMPLE.splitlines() if line and not line.startswith("#")]
    found = dict(re.findall(r"^#([A-Z_]+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
    assert set(found) == {name.upper() for name in Settings.model_fields}
    for name in found:
        monkeypatch.delenv(name, raising=False)
    defaults = Settings()
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    assert Settings() == defaults


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="markers"):
        settings_reference.with_table("# memory-worker\n")


def test_the_table_is_written_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stale = f"before\n{settings_reference.BEGIN}\nstale\n{settings_reference.END}\nafter\n"
    (tmp_path / "README.md").write_text(stale, encoding="utf-8")
    assert CliRunner().invoke(settings_reference.main, ["--write"]).exit_code == 0
    written = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert settings_reference.markdown_table() in written
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "stale" not in written
    assert (tmp_path / ".env.example").read_text(encoding="utf-8") == ENV_EXAMPLE
    assert CliRunner().invoke(settings_reference.main, []).output == f"{settings_reference.markdown_table()}\n"


@pytest.mark.parametrize("text", sorted(set(commands())))
def test_every_command_exists_with_its_options(text: str) -> None:
    words = text.split()
    command: click.Command = main
    path: list[str] = []
    while isinstance(command, click.Group):
        assert words, f"{text!r} names no command"
        path.append(words.pop(0))
        found = command.get_command(click.Context(command), path[-1])
        assert found is not None, f"there is no command {path[-1]!r}"
        command = found
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    for option in re.findall(r"--[a-z-]+", text):
        assert option in result.output, f"{' '.join(path)} has no {option}"


def test_every_command_is_mentioned() -> None:
    mentioned = " ".join(commands())
    assert not [name for name in COMMANDS if name not in mentioned]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", PROSE))))
def test_every_link_leads_somewhere(target: str) -> None:
    if urlsplit(target).scheme:
        return
    path, _, anchor = target.partition("#")
    assert not path or (ROOT / path).exists()
    assert not anchor or anchor in anchors(PROSE if not path else (ROOT / path).read_text(encoding="utf-8"))


def test_every_file_named_exists() -> None:
    named = {word for code in re.findall(r"`([^`\n]+)`", PROSE) for word in code.split() if word.startswith(TOP_LEVEL)}
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("body", blocks("python"))
def test_python_compiles_and_means_things_that_exist(body: str) -> None:
    tree = ast.parse(body)
    compile(tree, "README.md", "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            target = node.func.value
            if isinstance(target, ast.Name) and target.id == "queue":
                parameters = inspect.signature(getattr(MemoryQueue, node.func.attr)).parameters
                assert {keyword.arg for keyword in node.keywords} <= set(parameters)


def test_the_php_client_keeps_to_the_keys_and_records() -> None:
    php = blocks("php")[0].replace("$this->mw", "mw")
    (record,) = re.findall(r"sprintf\('([^']+)', \$p\)", php)
    keys = Keys()
    assert decode_arq((record % 7).encode()) == decode_arq(drain_job(7))
    for key in (keys.meta, keys.backlog, keys.drain_queue, keys.search_queue):
        assert f'"{key}"' in php
    assert f'"{keys.stream(7)}"'.replace("7", "$p") in php
    assert f'"{keys.arq_job(keys.drain_job_id(7))}"'.replace("7", "$p") in php
    assert f'"{keys.reply("$id")}"' in php
    assert f"{CONTRACT_VERSION}, {DRAIN_JOB_LIFE_MS}, $latest, $this->life() + 1000, 1," in php
    assert f'"{keys.since}", "{keys.pushed("$token")}"' in php
    assert f'"{keys.drain_wakeup}"' in php
    assert f'"{keys.search_wakeup}"' in php
    assert f"?: {DEFAULT_PARTITIONS})" in php


def test_the_table_of_ops_names_their_fields() -> None:
    defs = msgspec.json.decode(CliRunner().invoke(main, ["schema"]).output)["$defs"]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", PROSE.partition("## The wire contract")[2], re.MULTILINE))
    for name in ("Upsert", "Delete", "Purge", "Search", "Get", "Info"):
        told = set(re.findall(r"`(\w+)`", rows[name.lower()]))
        there = set(defs[name]["properties"]) - {"op"}
        assert told == (there - {"kind", "namespace"} if name == "Info" else there)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_payload_indexes_are_told(kind: Kind) -> None:
    section = PROSE.partition("## Data in Qdrant")[2].partition("\n## ")[0]
    assert not [name for name in kind.indexes if f"`{name}`" not in section]
