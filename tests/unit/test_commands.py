"""The command line itself: what it loads, what it lists, and where it looks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from memory_worker import __version__
from memory_worker.commands.main import COMMANDS, main
from memory_worker.commands.session import address
from memory_worker.settings import Settings

HEAVY = ("grpc", "qdrant_client", "redis", "arq", "pydantic", "rich", "uvloop", "asyncio")
LOADED = """
import sys
from memory_worker.commands import interrupts
from memory_worker.commands.main import main
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def loaded(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True, timeout=30
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",)])
def test_help_and_version_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert not loaded(*arguments) & set(HEAVY)


def test_the_schema_needs_no_server() -> None:
    assert not loaded("schema") & {"grpc", "qdrant_client", "redis", "arq", "pydantic"}


def test_dead_letters_need_no_qdrant() -> None:
    assert not loaded("dead", "--help") & {"grpc", "qdrant_client"}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_listed_as_it_describes_itself(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_unknown_commands_are_unknown() -> None:
    assert main.get_command(click.Context(main), "session") is None
    assert main.get_command(click.Context(main), "no-such") is None


@pytest.mark.parametrize(
    "command",
    [["status"], ["check"], ["dead", "list"], ["dead", "show", "0/1-1"], ["dead", "drop", "--all"], ["bulk"]],
    ids=" ".join,
)
def test_where_nothing_is_configured_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    for name in ("REDIS_URL", "QDRANT_URL", "DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2
    assert "nothing is configured" in done.stderr
    assert "REDIS_URL" in done.stderr
    assert f"{tmp_path}/data" in done.stderr
    assert "DATA_DIR" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["list", "replay", "drop"])
@pytest.mark.parametrize(("option", "choice"), [("--reason", "superseded"), ("--op", "purge")])
def test_a_filter_that_cannot_be_names_the_choices(command: str, option: str, choice: str) -> None:
    done = CliRunner().invoke(main, ["dead", command, option, "bogus"])
    assert done.exit_code == 2
    assert "bogus" in done.output
    assert choice in done.output


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379", "redis://localhost:6379, queue mw"),
        ("redis://user:se%2Fcret@host:1/3?socket_timeout=5", "redis://host:1/3, queue mw"),
        ("rediss://:secret@[::1]:6379?db=4", "rediss://[::1]:6379/4, queue mw"),
        ("redis://host?username=u&password=secret", "redis://host, queue mw"),
        ("unix://u:secret@/run/redis.sock", "unix:///run/redis.sock, queue mw"),
    ],
)
def test_addresses_show_no_secret(url: str, shown: str) -> None:
    assert address(Settings(redis_url=SecretStr(url)), "redis") == shown


def test_the_address_of_qdrant_and_of_engines(tmp_path: Path) -> None:
    assert address(Settings(qdrant_url="https://u:secret@qdrant:6334"), "qdrant") == "https://qdrant:6334"
    here = Settings(data_dir=tmp_path)
    assert address(here, "redis") == address(here, "qdrant") == f"embedded, in DATA_DIR ({tmp_path})"


def test_modules_of_an_app_hide_nothing(tmp_path: Path) -> None:
    for name in ("worker", "redis", "logging", "click"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('hidden')")
    for arguments in (["--help"], ["dead", "list"]):
        command = [sys.executable, "-m", "memory_worker", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "hidden" not in done.stderr


def test_the_version_is_that_of_the_package() -> None:
    done = subprocess.run([sys.executable, "-m", "memory_worker", "--version"], capture_output=True, check=True)
    assert done.stdout.decode().strip().endswith(__version__)


@pytest.mark.parametrize(
    ("argument", "missing", "extra"),
    [
        ("--help", "click", "worker"),
        ("run", "click", "worker"),
        ("demo", "click", "embedded"),
        ("run", "arq", "worker"),
    ],
)
def test_a_command_without_its_extra_says_which_one_to_install(argument: str, missing: str, extra: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from memory_worker.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", program, argument], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"memory-worker: this command needs the extra {extra} ({missing} is not installed): "
        f"pip install 'memory-worker[{extra}]'\n"
    )
