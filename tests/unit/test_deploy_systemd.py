"""The systemd service: systemd accepts it, it gives a worker what it needs, and its page installs it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from memory_worker.settings import Settings, load_settings, variables
from tests.documents import ROOT, blocks
from tests.tools import tool

SYSTEMD = ROOT / "deploy" / "systemd"
UNIT, COMMAND, PAGE = SYSTEMD / "memory-worker.service", SYSTEMD / "memory-worker", SYSTEMD / "README.md"
EMBEDDED_STOP_S = 20
"""What docs/operating.md promises for embedded engines."""


def entries() -> list[tuple[str, str]]:
    """Return the assignments of the unit, in order."""
    lines = (line for line in UNIT.read_text(encoding="utf-8").splitlines() if "=" in line and not line.startswith("#"))
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


SET = dict(entries())


def scripts(language: str = "bash") -> str:
    return "".join(block.body for block in blocks([PAGE], language))


@pytest.mark.parametrize("name", ["memory-worker.service", "memory-worker@ingest1.service"])
def test_systemd_accepts_it_as_one_service_and_as_a_template(name: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/memory-worker/bin/memory-worker", str(program)))
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_little_to_criticize() -> None:
    done = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=true", "--threshold=15", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_a_worker_is_restarted_for_ever_and_has_time_to_stop() -> None:
    assert (SET["Restart"], SET["StartLimitIntervalSec"], SET["KillSignal"]) == ("always", "0", "SIGTERM")
    settings = Settings()
    assert int(SET["TimeoutStopSec"]) > settings.worker_grace_s + settings.redis_timeout_s + EMBEDDED_STOP_S


def test_only_the_worker_gets_the_signal_because_it_still_needs_its_embedded_engines() -> None:
    assert SET["KillMode"] == "mixed"


def test_it_has_few_privileges_and_one_directory() -> None:
    expected = {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "CapabilityBoundingSet": "",
        "MemoryDenyWriteExecute": "yes",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    }
    assert {name: SET[name] for name in expected} == expected
    assert [value for name, value in entries() if name == "SystemCallFilter"] == [
        "@system-service",
        "~@privileged @resources",
    ]
    assert SET["Environment"] == f"DATA_DIR=%S/{SET['StateDirectory']}"


def test_an_instance_has_the_common_settings_and_its_own() -> None:
    files = [value for name, value in entries() if name == "EnvironmentFile"]
    assert files == ["/etc/memory-worker/memory-worker.env", "-/etc/memory-worker/%N.env"]


def test_the_settings_of_the_instances_on_the_page_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = re.findall(r"^printf '(.+)' > /etc/memory-worker/memory-worker@(\w+)\.env$", scripts(), re.MULTILINE)
    ports = set()
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    for text, name in instances:
        for line in text.replace("\\n", "\n").splitlines():
            monkeypatch.setenv(*line.split("=", 1))
        settings = load_settings()
        assert name.startswith(settings.worker_role)
        ports.add(settings.port)
        assert f"memory-worker@{name}" in scripts()
    assert len(ports) == len(instances) == 3


def test_the_page_installs_the_files_of_the_project_where_the_service_expects_them() -> None:
    installed = re.findall(r"^install -m \d+ (\S+) (\S+)$", scripts(), re.MULTILINE)
    assert [*dict(installed)] == [
        ".env.example",
        "deploy/systemd/memory-worker.service",
        "deploy/systemd/memory-worker",
    ]
    assert all((ROOT / source).is_file() for source, _ in installed)
    targets = {target for _, target in installed}
    assert SET["EnvironmentFile"].replace("-", "", 1).replace("%N", "memory-worker") in targets
    program = SET["ExecStart"].split()[0]
    assert f"python3 -m venv {Path(program).parents[1]}\n" in scripts()
    assert "systemctl enable --now memory-worker\n" in scripts()


def test_commands_run_with_the_settings_the_user_and_the_directory_of_the_service() -> None:
    text = COMMAND.read_text(encoding="utf-8")
    assert os.access(COMMAND, os.X_OK)
    subprocess.run(["sh", "-n", str(COMMAND)], check=True)
    for name in ("DynamicUser", "User", "StateDirectory"):
        assert f"--property={name}={SET[name]} " in text
    assert "--property=EnvironmentFile=/etc/memory-worker/memory-worker.env " in text
    assert f"--setenv=DATA_DIR=/var/lib/{SET['StateDirectory']} " in text
    assert f'{SET["ExecStart"].split()[0]} "$@"' in text
