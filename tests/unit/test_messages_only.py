"""Our own processes load only the messages of qdrant-client. The rest of it can still be imported afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memory_worker import messages_only
from memory_worker.embedded.interpreter import python_command
from memory_worker.messages_only import import_messages_only

COMMAND = """
import sys
from memory_worker import __main__ as command
command._exit = lambda status: None  # it would end the process
sys.argv[1:] = ["run", "--help"]
command.main()
print(*sys.modules, file=sys.stderr)
from qdrant_client import grpc, models, AsyncQdrantClient
import qdrant_client
assert qdrant_client.QdrantClient.__module__ == "qdrant_client.qdrant_client"
assert models.PointStruct(id=1, vector=[0.5]).vector == [0.5]
assert qdrant_client.grpc is grpc is sys.modules["qdrant_client.grpc"]
assert not hasattr(qdrant_client, "no_such_name")
assert "qdrant_client.http" in sys.modules
"""
NOT_LOADED = ("qdrant_client.http", "qdrant_client.qdrant_client", "numpy", "httpx", "rich")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done


def test_a_worker_loads_the_messages_only_and_the_client_can_be_imported_afterwards() -> None:
    modules = run(sys.executable, "-c", COMMAND).stderr.split()
    assert "qdrant_client.grpc" in modules
    assert not {*NOT_LOADED} & {*modules}


def test_an_embedded_engine_loads_the_messages_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "engine.py").write_text("import sys, memory_worker.embedded.front; print(*sys.modules)")
    monkeypatch.syspath_prepend(tmp_path)
    modules = run(*python_command("engine", [])).stdout.split()
    assert "qdrant_client.grpc" in modules
    assert "qdrant_client.http" not in modules


def test_a_loaded_package_stays_as_it_is() -> None:
    import qdrant_client  # noqa: PLC0415

    import_messages_only()
    assert sys.modules["qdrant_client"] is qdrant_client
    assert "__getattr__" not in vars(qdrant_client)


def test_a_missing_package_stays_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "qdrant_client", raising=False)
    monkeypatch.setattr(messages_only, "find_spec", lambda _: None)
    import_messages_only()
    assert "qdrant_client" not in sys.modules
