from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from memory_worker.contract.errors import ConfigurationError
from memory_worker.settings import Settings, load_settings, secret_file_variables, variables
from memory_worker.settings.shown import shown_settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)


def loaded(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_the_defaults() -> None:
    found = load_settings()
    assert (found.redis_url, found.qdrant_url, found.qdrant_api_key) == (None, None, None)
    assert found.qdrant_memories_collection == "user_memories"
    assert found.qdrant_documents_collection == "user_documents"
    assert found.qdrant_vector_dimension == 1024
    assert (found.qdrant_hnsw_m, found.qdrant_hnsw_ef_construct) == (None, 100)
    assert (found.worker_role, found.worker_concurrency) == ("all", 4)
    assert (found.queue_prefix, found.queue_partitions, found.port) == ("mw", 32, 8090)
    assert (found.log_level, found.log_json, found.data_dir) == ("INFO", False, Path("data"))
    assert (found.limits.dimension, found.limits.max_job_bytes) == (1024, 1_048_576)
    assert (found.queue_max_jobs, found.queue_max_bytes) == (1_000_000, 4_294_967_296)


def test_with_the_defaults_partitions_of_a_killed_worker_are_free_within_the_promised_15_seconds() -> None:
    found = load_settings()
    assert found.lease_ttl_s + found.rescue_interval_s + found.retry_max_s < 15


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(
        monkeypatch,
        REDIS_URL="rediss://user:pass@redis:6379/1",
        QDRANT_URL=" http://qdrant:6334 ",
        QDRANT_VECTOR_DIMENSION="384",
        JOB_MAX_BYTES="2048",
        WORKER_ROLE="search",
        LOG_JSON="true",
        DATA_DIR="/var/lib/mw",
    )
    assert found.redis_url == SecretStr("rediss://user:pass@redis:6379/1")
    assert found.qdrant_url == "http://qdrant:6334"
    assert (found.limits.dimension, found.limits.max_job_bytes) == (384, 2048)
    assert (found.worker_role, found.log_json, found.data_dir) == ("search", True, Path("/var/lib/mw"))


REDIS, QDRANT = {"REDIS_URL": "redis://redis"}, {"QDRANT_URL": "http://qdrant:6334"}


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ({}, "127.0.0.1"),
        (REDIS, "127.0.0.1"),
        (QDRANT, "127.0.0.1"),
        (REDIS | QDRANT, "0.0.0.0"),
        (REDIS | QDRANT | {"BIND_HOST": ""}, "0.0.0.0"),
        (REDIS | QDRANT | {"BIND_HOST": "::1"}, "::1"),
        ({"BIND_HOST": "0.0.0.0"}, "0.0.0.0"),
    ],
)
def test_with_an_embedded_engine_the_pages_are_for_this_machine_only_unless_bind_host_is_given(
    environment: dict[str, str], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loaded(monkeypatch, **environment).http_host == host


def test_with_the_url_of_redis_in_a_file_no_engine_is_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("redis://redis\n")
    assert loaded(monkeypatch, REDIS_URL_FILE=str(tmp_path / "url"), **QDRANT).http_host == "0.0.0.0"


@pytest.mark.parametrize(
    ("given", "namespaces"),
    [("", ("feedback_false_positive", "feedback_positive")), (",", ()), ("a, b-2 ,,a", ("a", "b-2"))],
)
def test_namespaces_are_a_list_with_commas(
    monkeypatch: pytest.MonkeyPatch, given: str, namespaces: tuple[str, ...]
) -> None:
    assert loaded(monkeypatch, QDRANT_NAMESPACES=given).namespaces == namespaces


@pytest.mark.parametrize(("memories", "documents"), [("app_docs", "app"), ("app", "app_DOCS"), ("app", "app-docs")])
def test_collection_names_with_a_common_beginning_are_accepted_if_they_cannot_collide(
    monkeypatch: pytest.MonkeyPatch, memories: str, documents: str
) -> None:
    found = loaded(monkeypatch, QDRANT_MEMORIES_COLLECTION=memories, QDRANT_DOCUMENTS_COLLECTION=documents)
    assert found.qdrant_documents_collection == documents


def test_an_override_replaces_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1234")
    monkeypatch.setenv("REDIS_URL", "")
    found = load_settings(port=4321, redis_url=None)
    assert (found.port, found.redis_url) == (4321, None)


@pytest.mark.parametrize("nothing", ["", " ", "\r\n"])
def test_an_empty_variable_counts_as_not_set(nothing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {*variables(), *secret_file_variables()} - {"REDIS_URL", "REDIS_URL_FILE", "QDRANT_URL"}
    assert loaded(monkeypatch, **dict.fromkeys(others, nothing)) == Settings()


@pytest.mark.parametrize("nothing", ["", " ", "\r"])
@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("REDIS_URL", {"QDRANT_URL": "http://qdrant:6334"}),
        ("QDRANT_URL", {"REDIS_URL": "redis://redis"}),
        ("REDIS_URL_FILE", {}),
        ("REDIS_URL", {}),
        ("QDRANT_URL", {}),
        ("REDIS_URL", {"QDRANT_URL": ""}),
    ],
)
def test_an_empty_address_is_refused(
    name: str, others: dict[str, str], nothing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: it is set, but empty"):
        loaded(monkeypatch, **{name: nothing}, **others)


def test_an_empty_address_is_accepted_if_its_file_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("redis://redis\n")
    found = loaded(monkeypatch, REDIS_URL="", REDIS_URL_FILE=str(tmp_path / "url"))
    assert found.redis_url == SecretStr("redis://redis")


def test_no_env_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("PORT=1\nQUEUE_PREFIX=other\n")
    monkeypatch.chdir(tmp_path)
    assert load_settings() == Settings()


@pytest.mark.parametrize("end", ["\r", " ", "\t\r\n"])
def test_trailing_blanks_are_removed(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "REDIS_URL": "redis://redis",
        "QDRANT_URL": "http://qdrant",
        "QDRANT_API_KEY": "key",
        "PORT": "1",
        "QDRANT_TIMEOUT_S": "4.5",
        "LOG_JSON": "true",
        "WORKER_ROLE": "search",
        "DATA_DIR": "/data",
    }
    found = loaded(monkeypatch, **{name: value + end for name, value in given.items()})
    assert found == Settings(
        redis_url=SecretStr("redis://redis"),
        qdrant_url="http://qdrant",
        qdrant_api_key=SecretStr("key"),
        port=1,
        qdrant_timeout_s=4.5,
        log_json=True,
        worker_role="search",
        data_dir=Path("/data"),
    )


def test_line_ends_of_a_password_are_removed_but_not_its_blanks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, REDIS_PASSWORD=" a b \r\n").redis_password == SecretStr(" a b ")


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_around_a_path_are_removed(quote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, DATA_DIR=f"{quote}/data{quote}").data_dir == Path("/data")


@pytest.mark.parametrize(
    "key", ['"sesame"', "'sesame'", "schl\N{LATIN SMALL LETTER U WITH DIAERESIS}ssel", "ses\name", "a b", "a\x7f"]
)
def test_a_malformed_api_key_is_refused_and_not_shown(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=r"^QDRANT_API_KEY: ") as refused:
        loaded(monkeypatch, QDRANT_API_KEY=key)
    assert key not in str(refused.value)
    monkeypatch.delenv("QDRANT_API_KEY")
    (tmp_path / "key").write_text(key)
    with pytest.raises(ConfigurationError, match=r"^QDRANT_API_KEY_FILE: "):
        loaded(monkeypatch, QDRANT_API_KEY_FILE=str(tmp_path / "key"))


@pytest.mark.parametrize("name", ["REDIS_PASSWORD", "QDRANT_URL", "PORT"])
def test_a_value_that_is_not_utf_8_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: it is not UTF-8"):
        loaded(monkeypatch, **{name: "schl\udcfcssel"})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1


def test_every_setting_is_described() -> None:
    assert len(variables()) == len(Settings.model_fields)
    for name, description in variables().items():
        assert name.isupper()
        assert description.endswith(".")


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "not a number": ({"PORT": "http"}, "PORT: "),
    "too large": ({"PORT": "65536"}, "PORT: "),
    "too small": ({"WORKER_CONCURRENCY": "0"}, "WORKER_CONCURRENCY: "),
    "not a choice": ({"WORKER_ROLE": "both"}, "WORKER_ROLE: "),
    "no level": ({"LOG_LEVEL": "LOUD"}, "LOG_LEVEL: "),
    "prefix with a colon": ({"QUEUE_PREFIX": "a:b"}, "QUEUE_PREFIX: "),
    "prefix with an open brace": ({"QUEUE_PREFIX": "{a"}, "QUEUE_PREFIX: "),
    "prefix with an empty hash tag": ({"QUEUE_PREFIX": "a{}"}, "QUEUE_PREFIX: "),
    "prefix with two hash tags": ({"QUEUE_PREFIX": "{a}{b}"}, "QUEUE_PREFIX: "),
    "prefix that is too long": ({"QUEUE_PREFIX": "a" * 65}, "QUEUE_PREFIX: "),
    "collection with a slash": ({"QDRANT_MEMORIES_COLLECTION": "a/b"}, "QDRANT_MEMORIES_COLLECTION: "),
    "two at once": ({"PORT": "x", "QUEUE_PARTITIONS": "0"}, "; "),
    "lease shorter than a request": (
        {"LEASE_TTL_S": "6.9"},
        r"LEASE_TTL_S \(6.9\) must be at least QDRANT_TIMEOUT_S \(5\) plus 2",
    ),
    "request longer than the lease": ({"QDRANT_TIMEOUT_S": "6.1"}, r"LEASE_TTL_S \(8\) must be at least"),
    "retries upside down": ({"RETRY_MAX_S": "0.05"}, "RETRY_MAX_S must not be below RETRY_BASE_S"),
    "more confirmations than replicas": (
        {"QDRANT_WRITE_CONSISTENCY_FACTOR": "2"},
        "QDRANT_WRITE_CONSISTENCY_FACTOR must not exceed QDRANT_REPLICATION_FACTOR",
    ),
    "too little memory for two answers": (
        {"READ_BUDGET_BYTES": "1048576", "READ_MAX_BYTES": "1048576"},
        r"READ_BUDGET_BYTES \(1048576\) must be at least twice READ_MAX_BYTES",
    ),
    "no room for one reply": (
        {"REPLIES_MAX_BYTES": "1048576", "READ_MAX_BYTES": "1048577"},
        "REPLIES_MAX_BYTES must not be below READ_MAX_BYTES",
    ),
    "a certificate without its key": ({"REDIS_TLS_CERT_FILE": "a"}, "REDIS_TLS_KEY_FILE need each other"),
    "a key without its certificate": ({"REDIS_TLS_KEY_FILE": "a"}, "REDIS_TLS_KEY_FILE need each other"),
    "one collection for both": (
        {"QDRANT_DOCUMENTS_COLLECTION": "user_memories"},
        "^QDRANT_DOCUMENTS_COLLECTION: 'user_memories' is also QDRANT_MEMORIES_COLLECTION$",
    ),
    "documents where a namespace could be": (
        {"QDRANT_MEMORIES_COLLECTION": "app", "QDRANT_DOCUMENTS_COLLECTION": "app_docs"},
        r"^QDRANT_DOCUMENTS_COLLECTION: 'app_docs' is also the name of the namespace 'docs' of "
        r"QDRANT_MEMORIES_COLLECTION \('app'\); rename one of them$",
    ),
    "no namespace": ({"QDRANT_NAMESPACES": "good,Bad"}, "QDRANT_NAMESPACES: 'Bad': 1 to 64 characters a-z 0-9 _ -"),
}  # fmt: skip


@pytest.mark.parametrize(("environment", "problem"), WRONG.values(), ids=WRONG)
def test_settings_that_cannot_work_are_refused_by_name(
    environment: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        loaded(monkeypatch, **environment)


RIGHT: dict[str, dict[str, str]] = {
    "lease just long enough": {"LEASE_TTL_S": "7"},
    "one delay for all": {"RETRY_BASE_S": "4"},
    "confirmed by all": {"QDRANT_WRITE_CONSISTENCY_FACTOR": "2", "QDRANT_REPLICATION_FACTOR": "2"},
    "no limits": {"QUEUE_MAX_JOBS": "0", "QUEUE_MAX_BYTES": "0"},
    "any port": {"PORT": "0"},
}


@pytest.mark.parametrize("environment", RIGHT.values(), ids=RIGHT)
def test_settings_at_the_limit_are_accepted(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(monkeypatch, **environment)


def test_a_misspelt_variable_is_an_error_that_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URI: unknown, did you mean REDIS_URL\\?"):
        loaded(monkeypatch, REDIS_URI="1")


def test_a_misspelt_override_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="PROT"):
        load_settings(prot=1)


def service_variables(service: str, port: int) -> dict[str, str]:
    """Return the variables that Kubernetes sets in every container for a service."""
    address = f"tcp://10.0.0.1:{port}"
    return {
        f"{service}_SERVICE_HOST": "10.0.0.1",
        f"{service}_SERVICE_PORT": str(port),
        f"{service}_SERVICE_PORT_GRPC": str(port),
        f"{service}_SERVICE_PORT_HTTP": str(port),
        f"{service}_PORT": address,
        f"{service}_PORT_{port}_TCP": address,
        f"{service}_PORT_{port}_TCP_PROTO": "tcp",
        f"{service}_PORT_{port}_TCP_PORT": str(port),
        f"{service}_PORT_{port}_TCP_ADDR": "10.0.0.1",
    }


@pytest.mark.parametrize(
    "service", ["REDIS", "QDRANT", "QDRANT_HEADLESS", "WORKER", "MEMORY_WORKER", "QUEUE", "SEARCH"]
)
def test_variables_of_kubernetes_services_have_no_effect(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(monkeypatch, **service_variables(service, 6334)) == Settings()


def test_variables_of_other_programs_have_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    others = ("WEB_CONCURRENCY", "RQ_REDIS_URL", "REDIS_HOST", "REDIS_ARGS", "QDRANT__SERVICE__API_KEY", "HTTP_PORT")
    assert loaded(monkeypatch, **dict.fromkeys(others, "1")) == Settings()


SECRETS = {
    "REDIS_URL": "redis://:hunter2@redis:6379",
    "REDIS_USERNAME": "hunter2",
    "REDIS_PASSWORD": "hunter2",
    "QDRANT_API_KEY": "hunter2",
    "CONSOLE_PASSWORD": "hunter2hunter2",
}


@pytest.mark.parametrize("shown", [repr, str, lambda found: found.model_dump_json()], ids=["repr", "str", "json"])
def test_secrets_are_not_shown(shown: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = loaded(monkeypatch, **SECRETS)
    assert "hunter2" not in shown(found)
    assert found.qdrant_api_key is not None
    assert found.qdrant_api_key.get_secret_value() == "hunter2"


def test_secrets_are_not_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(monkeypatch, **SECRETS, PORT="x", LEASE_TTL_S="0.1")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_error_of_pydantic_does_not_show_the_values() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(redis_url=["redis://:hunter2@redis"], qdrant_api_key=b"hunter2", lease_ttl_s=1)  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


class TestSecretFiles:
    """Docker and Kubernetes provide secrets as files."""

    @pytest.mark.parametrize("name", SECRETS)
    def test_a_secret_is_read_from_a_file(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "secret").write_text(SECRETS[name])
        found = loaded(monkeypatch, **{f"{name}_FILE": str(tmp_path / "secret")})
        assert getattr(found, name.lower()) == SecretStr(SECRETS[name])
        assert "hunter2" not in repr(found)

    @pytest.mark.parametrize(
        ("text", "secret"),
        [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a"), (" a b \n", " a b "), ("pä€\n", "pä€"), ("\ufeffa\n", "a")],
    )
    def test_trailing_newlines_are_removed(
        self, text: str, secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "secret").write_bytes(text.encode())
        found = loaded(monkeypatch, REDIS_PASSWORD_FILE=str(tmp_path / "secret"))
        assert found.redis_password == SecretStr(secret)

    def test_blanks_around_an_api_key_are_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "secret").write_text(" key \n")
        assert loaded(monkeypatch, QDRANT_API_KEY_FILE=str(tmp_path / "secret")).qdrant_api_key == SecretStr("key")

    def test_a_file_that_is_too_large_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigurationError, match="REDIS_PASSWORD_FILE: /dev/zero is larger than 65536 bytes"):
            loaded(monkeypatch, REDIS_PASSWORD_FILE="/dev/zero")

    def test_exactly_the_secret_settings_have_a_file(self) -> None:
        assert set(secret_file_variables()) == {f"{name}_FILE" for name in SECRETS}
        for variable, field in secret_file_variables().items():
            assert variable not in variables()
            assert f"`{variable}`" in variables()[field.upper()]

    @pytest.mark.parametrize("name", SECRETS)
    def test_a_secret_given_as_variable_and_as_file_is_refused(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "secret").write_text(SECRETS[name])
        with pytest.raises(ConfigurationError, match=f"{name} and {name}_FILE: only one") as caught:
            loaded(monkeypatch, **{name: SECRETS[name], f"{name}_FILE": str(tmp_path / "secret")})
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        ("content", "problem"),
        [(None, "No such file"), (b"", "is empty"), (b"\n", "is empty"), (b"hunter2\xff", "is not UTF-8")],
        ids=["missing", "empty", "nothing but a newline", "not text"],
    )
    def test_a_file_without_a_secret_is_refused(
        self, content: bytes | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "secret"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(
            ConfigurationError, match=f"REDIS_PASSWORD_FILE: .*{file}.*{problem}|{file} {problem}"
        ) as caught:
            loaded(monkeypatch, REDIS_PASSWORD_FILE=str(file))
        assert "hunter2" not in str(caught.value)

    def test_a_directory_instead_of_a_file_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigurationError, match=f"REDIS_URL_FILE: cannot read {tmp_path}: Is a directory"):
            loaded(monkeypatch, REDIS_URL_FILE=str(tmp_path))

    def test_an_empty_name_of_a_file_counts_as_not_set(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "secret").write_text("hunter2")
        assert loaded(monkeypatch, QDRANT_API_KEY_FILE="").qdrant_api_key is None
        found = loaded(monkeypatch, QDRANT_API_KEY="", QDRANT_API_KEY_FILE=str(tmp_path / "secret"))
        assert found.qdrant_api_key == SecretStr("hunter2")

    def test_an_override_replaces_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "secret").write_text("redis://redis")
        monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "secret"))
        assert load_settings(redis_url=None).redis_url is None


class TestConsole:
    def test_actions_need_a_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigurationError, match="CONSOLE_ACTIONS needs CONSOLE_PASSWORD_FILE"):
            loaded(monkeypatch, CONSOLE_ACTIONS="true")

    def test_a_short_password_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "password").write_text("eleven char\n")
        with pytest.raises(ConfigurationError, match="CONSOLE_PASSWORD: at least 12 characters are needed, got 11"):
            loaded(monkeypatch, CONSOLE_PASSWORD_FILE=str(tmp_path / "password"))

    def test_an_empty_or_missing_file_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "password").write_text("\n")
        with pytest.raises(ConfigurationError, match=r"CONSOLE_PASSWORD_FILE: .* is empty"):
            loaded(monkeypatch, CONSOLE_PASSWORD_FILE=str(tmp_path / "password"), CONSOLE_ACTIONS="true")
        with pytest.raises(ConfigurationError, match=r"CONSOLE_PASSWORD_FILE: cannot read .*missing"):
            loaded(monkeypatch, CONSOLE_PASSWORD_FILE=str(tmp_path / "missing"), CONSOLE_ACTIONS="true")


class TestShown:
    def test_secrets_are_masked_and_addresses_have_no_credentials(self) -> None:
        settings = Settings(
            redis_url=SecretStr("rediss://user:hunter2@redis:6379/1?client_name=hunter2"),
            redis_password=SecretStr("hunter2"),
            qdrant_url="https://hunter2@qdrant:6334",
            qdrant_api_key=SecretStr("hunter2"),
        )
        shown = {one.name: one for group in shown_settings(settings, {}) for one in group.settings}
        assert "hunter2" not in repr(shown)
        assert shown["REDIS_URL"].value == "rediss://redis:6379/1"
        assert shown["QDRANT_URL"].value == "https://qdrant:6334"
        assert shown["QDRANT_API_KEY"].value == "••••••••"
        assert [*shown] == [name.upper() for name in Settings.model_fields]

    def test_each_says_where_it_comes_from(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "key").write_text("hunter2")
        given = {"PORT": "8090", "QDRANT_API_KEY_FILE": str(tmp_path / "key")}
        settings = loaded(monkeypatch, **given).model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1")})
        shown = {one.name: one.origin for group in shown_settings(settings, given) for one in group.settings}
        origins = {name: shown[name] for name in ("PORT", "QDRANT_API_KEY", "REDIS_URL", "LOG_LEVEL", "QDRANT_URL")}
        assert origins == {
            "PORT": "environment",
            "QDRANT_API_KEY": "file",
            "REDIS_URL": "embedded",
            "LOG_LEVEL": "default",
            "QDRANT_URL": "default",
        }
