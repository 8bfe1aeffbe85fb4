"""The Dockerfile and the compose file: what can be checked without building or running them."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from memory_worker import __version__
from memory_worker.settings import Settings, load_settings, variables

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKERS = [name for name, service in SERVICES.items() if service["image"] == "memory-worker"]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LOCKS = {
    "requirements.lock": PROJECT["dependencies"],
    "build.lock": PYPROJECT["build-system"]["requires"],
}
DEFAULTS = Settings.model_construct()

VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::-([^}]*))?\}")
BYTES = {"": 1, "b": 1, "k": 2**10, "kb": 2**10, "m": 2**20, "mb": 2**20, "g": 2**30, "gb": 2**30}


def resolved(text: object) -> str:
    """Return a value as Compose resolves it if no variable is set."""
    return VARIABLE.sub(lambda found: found[2] or "", str(text)).replace("$$", "$")


def size(text: object) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w*)", resolved(text)).groups()  # type: ignore[union-attr]
    return int(number) * BYTES[unit.lower()]


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.+)$", DOCKERFILE, re.MULTILINE)


def pinned(lock: str) -> dict[str, str]:
    """Return the names and versions that a lock pins."""
    text = (ROOT / "deploy/docker" / lock).read_text(encoding="utf-8")
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_for_every_requirement_and_no_url_or_path(name: str) -> None:
    text = (ROOT / "deploy/docker" / name).read_text(encoding="utf-8")
    entries = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    assert entries
    for entry in entries:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( +--hash=sha256:[0-9a-f]{64})+", entry.strip()), entry
    assert not re.search(r"://|--index|--extra-index|--find-links|/tmp|/home|/root|[\w-]\.(org|com|io|net)\b", text)


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_satisfies_pyproject(name: str) -> None:
    versions = pinned(name)
    for requirement in map(Requirement, LOCKS[name]):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement
        # Extras cannot be resolved here, but redis[hiredis] brings a package of that name.
        assert requirement.extras <= versions.keys(), requirement


def test_only_the_worker_and_its_dependencies_are_in_the_image() -> None:
    extras = PROJECT["optional-dependencies"]
    named = {name: {canonicalize_name(Requirement(text).name) for text in texts} for name, texts in extras.items()}
    needed = named.pop("worker") | named.pop("otel")
    base = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert base | needed <= pinned("requirements.lock").keys()
    others = set().union(*named.values()) - needed - base - {"memory-worker"}
    assert not others & pinned("requirements.lock").keys()


def test_the_image_runs_the_worker_without_root_and_as_the_first_process() -> None:
    user, group = instructions("USER")[-1].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert instructions("ENTRYPOINT") == ['["memory-worker"]']
    assert instructions("CMD")[-1] == '["run"]'
    assert instructions("STOPSIGNAL") == ["SIGTERM"]
    assert instructions("EXPOSE") == [str(DEFAULTS.port)]
    assert instructions("ARG") == [f"VERSION={__version__}"]


def test_every_stage_has_the_python_version_of_the_locks() -> None:
    bases = {base.split(" AS ")[0] for base in instructions("FROM")} - {"dependencies"}
    assert bases == {"python:3.11-slim-bookworm"}
    assert "--python-version 3.11" in (ROOT / "deploy/docker/lock").read_text(encoding="utf-8")


def test_everything_is_installed_by_hash_or_from_the_checkout() -> None:
    installs = re.findall(r"-m pip (?:--python \S+ )?install +([^&]+)", DOCKERFILE)
    assert len(installs) == 3
    for arguments in installs:
        assert "--require-hashes" in arguments or "--no-index" in arguments, arguments
        assert "--only-binary :all:" in arguments or "--no-deps" in arguments, arguments


def test_the_build_context_has_exactly_what_is_copied() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_through = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied = {
        source
        for arguments in instructions("COPY")
        if not arguments.startswith("--from")
        for source in arguments.split()[:-1]
    }
    for source in copied:
        assert any(Path(source).match(rule) for rule in let_through), source
        assert (ROOT / source).exists(), source
    for rule in let_through:
        assert list(ROOT.glob(rule)), rule


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_limits_and_few_privileges(name: str) -> None:
    service = SERVICES[name]
    resources = service["deploy"]["resources"]
    assert size(resources["limits"]["memory"]) >= size(resources["reservations"]["memory"])
    assert float(resources["limits"]["cpus"]) > 0
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}
    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert "container_name" not in service
    assert "privileged" not in service


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_built_here_or_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    if name in WORKERS:
        assert (image, SERVICES[name]["build"]) == ("memory-worker", ".")
    else:
        assert re.fullmatch(r"(?:[a-z]+/)?[a-z]+:v?\d+\.\d+[\w.-]*", image), image


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    ports = SERVICES[name].get("ports", [])
    assert all(resolved(port).startswith("127.0.0.1:") for port in ports), ports
    if ports:
        assert {*SERVICES[name]["networks"]} - {"servers"}


def test_workers_can_be_scaled() -> None:
    assert WORKERS == ["ingest", "search"]
    for name in WORKERS:
        assert "ports" not in SERVICES[name]
        assert "volumes" not in SERVICES[name]
        assert SERVICES[name]["command"] == ["run", "--role", name]
        assert SERVICES[name]["depends_on"]["memory-redis"] == {"condition": "service_healthy"}


@pytest.mark.parametrize("name", WORKERS)
def test_workers_have_enough_time_to_stop(name: str) -> None:
    grace_s = int(resolved(SERVICES[name]["stop_grace_period"]).removesuffix("s"))
    assert grace_s > DEFAULTS.worker_grace_s + DEFAULTS.redis_timeout_s


@pytest.mark.parametrize("name", WORKERS)
def test_the_environment_of_workers_is_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {key: resolved(value) for key, value in SERVICES[name]["environment"].items()}
    assert environment.keys() <= variables().keys()
    for key in variables():
        monkeypatch.delenv(key, raising=False)
    # Workers get all variables of .env. The names that only Compose reads must not harm them.
    for key in {found[0] for found in VARIABLE.findall(COMPOSE_TEXT)} - variables().keys():
        monkeypatch.setenv(key, "1")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    settings = load_settings()
    assert settings.redis_password is None
    assert settings.qdrant_api_key is None
    assert (settings.port, settings.http_host) == (DEFAULTS.port, "0.0.0.0")
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == "redis://memory-redis:6379"
    assert settings.qdrant_url == "http://qdrant:6334"


def test_the_variables_of_compose_are_documented_with_their_defaults() -> None:
    comment = COMPOSE_TEXT[: COMPOSE_TEXT.index("\nname:")]
    for name, default in VARIABLE.findall(COMPOSE_TEXT):
        if name not in variables():
            assert f"{name} ({default})" in comment, name


def test_redis_has_memory_for_a_full_queue_and_its_container_for_redis() -> None:
    redis = SERVICES["memory-redis"]
    maxmemory = size(redis["environment"]["MAXMEMORY"])
    # A full queue takes some 20 % more than its bytes. Dead letters need memory, too.
    assert int(resolved(SERVICES["ingest"]["environment"]["QUEUE_MAX_BYTES"])) * 1.2 < maxmemory * 0.9
    assert size(redis["deploy"]["resources"]["limits"]["memory"]) > 2 * maxmemory
    command = " ".join(redis["command"])
    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command
    assert "redis:/data" in redis["volumes"]


def test_the_compose_file_has_no_secrets() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|API_KEY|SECRET|TOKEN", key):
                assert re.fullmatch(r"\$\{\w+:-\}", value), (name, key)


def test_monitoring_is_a_profile_and_its_files_exist() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["monitoring"]} == {
        "prometheus",
        "grafana",
    }
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    for mount in mounts:
        source = mount.split(":")[0]
        if source.startswith("./"):
            assert mount.endswith(":ro"), mount
            assert (ROOT / source).is_dir(), mount
        else:
            assert source in COMPOSE["volumes"], mount


@pytest.fixture
def page_server() -> Iterator[int]:
    """Run a server that has only the page /livez; return its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/livez" else 503)
            self.end_headers()
            self.wfile.write(b'{"asked": true}\n')

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def health_check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the health check as the image does."""
    command = [sys.executable, "-IS", str(ROOT / "deploy/docker/healthcheck.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)


def test_the_health_check_asks_the_worker(page_server: int) -> None:
    alive = health_check(PORT=str(page_server))
    assert (alive.returncode, alive.stdout) == (0, '200 {"asked": true}\n')
    unready = health_check("/readyz", PORT=str(page_server), BIND_HOST="0.0.0.0")
    assert (unready.returncode, unready.stdout) == (1, '503 {"asked": true}\n')


def test_the_health_check_fails_without_a_server() -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    failed = health_check(PORT=str(port), BIND_HOST="127.0.0.1")
    assert failed.returncode == 1
    assert "refused" in failed.stdout
    assert failed.stderr == ""


def test_the_health_checks_use_existing_pages() -> None:
    assert re.findall(r'"/opt/healthcheck.py", "(/\w+)"', DOCKERFILE) == ["/livez"]
    for name in WORKERS:
        assert SERVICES[name]["healthcheck"]["test"][-2:] == ["/opt/healthcheck.py", "/readyz"]
