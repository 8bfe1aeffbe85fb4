"""The command line: which modules it loads, what it lists, and which servers it uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from memory_worker import __version__
from memory_worker.commands import interrupts
from memory_worker.commands.library_variables import HIDDEN, hide_from_libraries
from memory_worker.commands.main import COMMANDS, main
from memory_worker.commands.session import address
from memory_worker.contract import json_schema
from memory_worker.settings import Settings

QDRANT = {"grpc", "qdrant_client"}
SERVERS = QDRANT | {"redis", "arq", "pydantic"}
HEAVY = SERVERS | {"rich", "uvloop", "asyncio"}
LOADED = """
import sys
from memory_worker.commands import interrupts
from memory_worker.commands.main import main
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("command", "unwanted"),
    [("--help", HEAVY), ("--version", HEAVY), ("schema", SERVERS), ("dead --help", QDRANT)],
)
def test_a_command_loads_no_module_that_it_does_not_need(command: str, unwanted: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *command.split()], capture_output=True, text=True, check=True, timeout=30
    )
    assert not unwanted & set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_name_and_a_help_text(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_an_unknown_command_is_not_found() -> None:
    assert main.get_command(click.Context(main), "session") is None
    assert main.get_command(click.Context(main), "no-such") is None


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["check"],
        ["dead", "list"],
        ["dead", "show", "0/1-1"],
        ["dead", "drop", "--all"],
        ["bulk"],
        ["rekey"],
        ["reconcile", "--kind", "memory"],
    ],
    ids=" ".join,
)
def test_a_command_without_configuration_starts_nothing(
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
def test_a_wrong_filter_is_refused_with_the_choices(command: str, option: str, choice: str) -> None:
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
        ("redis+sentinel://u:secret@one,[::1]:2,x/main/3", "redis+sentinel://one,[::1]:2,x/main/3, queue mw"),
        ("redis+sentinel://one/main?db=3", "redis+sentinel://one/main/3, queue mw"),
    ],
)
def test_an_address_is_shown_without_secrets(url: str, shown: str) -> None:
    assert address(Settings(redis_url=SecretStr(url)), "redis") == shown


def test_the_addresses_of_qdrant_and_of_embedded_engines_are_shown(tmp_path: Path) -> None:
    assert address(Settings(qdrant_url="https://u:secret@qdrant:6334"), "qdrant") == "https://qdrant:6334"
    here = Settings(data_dir=tmp_path)
    assert address(here, "redis") == address(here, "qdrant") == f"embedded, in DATA_DIR ({tmp_path})"


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(main, ["--version"]).stdout.strip().endswith(__version__)


def test_the_schema_is_printed_as_json() -> None:
    assert json.loads(CliRunner().invoke(main, ["schema"]).stdout) == json_schema()


def test_variables_that_libraries_read_are_hidden() -> None:
    environment = {**dict.fromkeys(HIDDEN, "1"), "PATH": "/bin", "PORT": "1", "GRPC_VERBOSITY": "DEBUG"}
    hide_from_libraries(environment)
    assert environment == {"PATH": "/bin", "PORT": "1", "GRPC_VERBOSITY": "DEBUG"}


GOAWAY = """
import os, socket, struct, sys, threading
from memory_worker.commands.library_variables import hide_from_libraries
hide_from_libraries(os.environ)
import grpc

def serve(server):
    connection, _ = server.accept()
    connection.recv(65536)
    connection.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
    connection.sendall(bytes([0, 0, 22, 7, 0, 0, 0, 0, 0]) + struct.pack(">II", 0, 11) + b"too_many_pings")
    connection.recv(65536)

server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(server,), daemon=True).start()
with grpc.insecure_channel(f"127.0.0.1:{server.getsockname()[1]}") as channel:
    try:
        channel.unary_unary("/a/b")(b"", timeout=0.5)
    except grpc.RpcError as error:
        print(error.code().name)
"""


@pytest.mark.parametrize(("variables", "is_quiet"), [({}, True), ({"GRPC_VERBOSITY": "INFO"}, False)])
def test_grpc_writes_nothing_itself_unless_it_is_asked_to(variables: dict[str, str], is_quiet: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    done = subprocess.run(
        [sys.executable, "-c", GOAWAY], env={**environment, **variables}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
    assert (done.stderr == "") == is_quiet, done.stderr


def test_a_temporary_directory_is_removed_with_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with interrupts.temporary_directory("some-") as path:
        assert Path(path).stat().st_mode & 0o777 == 0o700
        (Path(path) / "a" / "b").mkdir(parents=True)
        (Path(path) / "a" / "b" / "file").write_text("x")
        (Path(path) / "link").symlink_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


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
