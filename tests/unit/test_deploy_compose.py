"""The Compose files beside docker-compose.yml, and the page that explains them all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from memory_worker.settings import Settings, load_settings, variables
from tests.documents import ROOT, blocks, joined
from tests.unit.test_deploy_docker import COMPOSE, SERVICES, VARIABLE, WORKERS, resolved, size

DIRECTORY = ROOT / "deploy" / "compose"
PAGE = DIRECTORY / "README.md"
MAIN_APP_TEXT = (DIRECTORY / "main-app.yml").read_text(encoding="utf-8")
MAIN_APP: dict[str, Any] = yaml.safe_load(MAIN_APP_TEXT)
WORKER, REDIS = MAIN_APP["services"]["memory-worker"], MAIN_APP["services"]["memory-redis"]
PAGES: dict[str, Any] = yaml.safe_load((DIRECTORY / "pages.yml").read_text(encoding="utf-8"))
ENV = dict(
    line.split("=", 1)
    for line in (DIRECTORY / "main-app.env").read_text(encoding="utf-8").splitlines()
    if line[0:1] not in "#"
)
MIB, ENCODED, STORED, READ_JOB, OUTCOME = 2**20, 4_311, 5_157, 5_400, 230
"""Bytes, from deploy/SIZING.md."""


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the worker beside the main app, with main-app.env."""
    for key in variables():
        monkeypatch.delenv(key, raising=False)
    for key, value in ENV.items():
        monkeypatch.setenv(key, value)
    for key, value in WORKER["environment"].items():
        text = VARIABLE.sub(lambda found: found[2] or ENV.get(found[1], ""), str(value))
        monkeypatch.setenv(key, re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: ENV[found[1]], text))
    return load_settings()


class TestMainApp:
    def test_redis_is_that_of_the_complete_installation_with_other_limits(self) -> None:
        differ = {"networks", "ports", "deploy", "environment"}
        full = SERVICES["memory-redis"]
        assert {k: v for k, v in REDIS.items() if k not in differ} == {k: v for k, v in full.items() if k not in differ}
        assert REDIS["environment"].keys() == full["environment"].keys()
        assert "ports" not in REDIS

    def test_the_worker_is_that_of_the_complete_installation_with_both_roles(self) -> None:
        differ = {"networks", "ports", "deploy", "environment", "build", "command", "depends_on"}
        full = SERVICES["ingest"]
        assert {k: v for k, v in WORKER.items() if k not in differ} == {
            k: v for k, v in full.items() if k not in differ
        }
        assert WORKER["command"] == ["run", "--role", "all"]
        assert (DIRECTORY / WORKER["build"]).resolve() == ROOT
        assert WORKER["depends_on"] == {"memory-redis": {"condition": "service_healthy"}}

    def test_it_joins_the_network_of_the_app_and_no_other(self) -> None:
        assert [service["networks"] for service in (WORKER, REDIS)] == [["app"], ["app"]]
        assert MAIN_APP["networks"].keys() == {"app"}
        assert MAIN_APP["networks"]["app"]["external"] is True
        assert MAIN_APP["networks"]["app"]["name"].startswith("${APP_NETWORK:?")
        assert [resolved(port) for port in WORKER["ports"]] == ["127.0.0.1:8090:8090"]

    def test_the_example_sets_what_must_be_set(self) -> None:
        required = set(re.findall(r"\$\{(\w+):\?", MAIN_APP_TEXT))
        assert required | {"COMPOSE_FILE"} == ENV.keys()
        assert ENV["COMPOSE_FILE"] == "main-app.yml"

    def test_the_variables_of_compose_are_documented_with_their_defaults(self) -> None:
        comment = MAIN_APP_TEXT[: MAIN_APP_TEXT.index("\nname:")]
        for name, default in VARIABLE.findall(MAIN_APP_TEXT):
            if name not in variables():
                assert f"{name} ({default})" in comment, name

    def test_the_memory_adds_up_as_the_page_says(self, settings: Settings) -> None:
        maxmemory = size(REDIS["environment"]["MAXMEMORY"])
        limits = [size(service["deploy"]["resources"]["limits"]["memory"]) for service in (WORKER, REDIS)]
        jobs = settings.queue_max_bytes // ENCODED
        reads = settings.search_max_waiting * READ_JOB + settings.replies_max_bytes + settings.outcomes_max * OUTCOME
        worker = 80 * MIB + settings.worker_concurrency * 8 * settings.batch_max_bytes + 6 * settings.read_budget_bytes
        assert worker < 0.6 * limits[0]
        assert jobs * STORED + reads < 0.8 * maxmemory
        assert 2 * maxmemory < limits[1]
        page = joined(PAGE)
        for phrase in (
            f"may use {limits[0] // MIB} + {limits[1] // MIB} = {sum(limits) // MIB} MiB",
            f"= {worker // MIB}, and a reserve",
            f"| full queue | {round(jobs * STORED / MIB)} | `QUEUE_MAX_BYTES` is {settings.queue_max_bytes // MIB} MiB",
            f"| `maxmemory` of Redis | {maxmemory // MIB} |",
            f"hold {jobs:,} writes",
            f"of {jobs / 3_600:.1f} hours with one write per second",
        ):
            assert phrase in page, phrase


class TestPages:
    def test_each_role_has_its_own_range_on_loopback(self) -> None:
        assert [*PAGES["services"]] == WORKERS
        seen: set[int] = set()
        for service in PAGES["services"].values():
            (port,) = service["ports"]
            found = re.fullmatch(r"127\.0\.0\.1:(\d+)-(\d+):8090", port)
            assert found, port
            ports = range(int(found[1]), int(found[2]) + 1)
            assert not seen & {*ports}
            seen |= {*ports}
            assert f"{found[1]} to {found[2]}" in joined(PAGE)

    def test_workers_stay_in_the_internal_network_and_join_one_that_publishes_ports(self) -> None:
        for service in PAGES["services"].values():
            assert service["networks"] == ["servers", "pages"]
        assert PAGES["networks"] == {"pages": {}}


class TestNetworkOfApps:
    def test_the_example_of_the_page_joins_the_network_and_uses_the_name_of_redis(self) -> None:
        (block,) = blocks([PAGE], "yaml")
        app = yaml.safe_load(block.body)
        assert app["networks"] == {COMPOSE["networks"]["apps"]["name"]: {"external": True}}
        assert app["services"]["app"]["networks"] == ["default", "memory-worker"]
        assert app["services"]["app"]["environment"]["MEMORY_REDIS_URL"] == "redis://memory-redis:6379"

    def test_only_redis_is_in_it_and_the_servers_reach_no_other_network(self) -> None:
        assert [name for name, service in SERVICES.items() if "apps" in service["networks"]] == ["memory-redis"]
        assert COMPOSE["networks"]["servers"] == {"internal": True}


def test_every_file_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for path in [*DIRECTORY.glob("*.yml"), *DIRECTORY.glob("*.env")]:
        assert Path(path).name in text


def test_the_commands_of_the_page_name_services_and_files_that_exist() -> None:
    code = "\n".join(re.findall(r"`(docker compose [^`]+)`", PAGE.read_text(encoding="utf-8")))
    code += "".join(block.body for block in blocks([PAGE], "bash"))
    files = re.findall(r"-f (\S+)", code)
    assert files
    assert all((ROOT / name).is_file() for name in files)
    named = {*re.findall(r"--scale (\w+)=|(?:run --rm|port|ps -q|exec|--wait) ([a-z][\w-]*)", code)}
    services = {*SERVICES, *MAIN_APP["services"]}
    assert {one or other for one, other in named} <= services
