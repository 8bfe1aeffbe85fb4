"""Which unknown variables are errors, which are warnings, and which are ignored."""

from __future__ import annotations

import pytest

from memory_worker.settings import secret_file_variables, variables
from memory_worker.settings.variable_names import ALSO_CALLED, OTHER_PROGRAMS, Unknown, foreign, misspelt

SETTINGS = {*variables(), *secret_file_variables()}

ERRORS = {
    "BATCH_MAX_JOB": "BATCH_MAX_JOBS",
    "BATCH_SIZE": "BATCH_MAX_JOBS",
    "DATA_DIRR": "DATA_DIR",
    "LEASE_TTL": "LEASE_TTL_S",
    "QDRANT_APIKEY": "QDRANT_API_KEY",
    "QDRANT_HNSW_EF": "QDRANT_HNSW_EF_CONSTRUCT",
    "QDRANT_KEY": "QDRANT_API_KEY",
    "QDRANT_TIMEOUT_SECONDS": "QDRANT_TIMEOUT_S",
    "QDRANT_URI": "QDRANT_URL",
    "QDRANT_VECTOR_DIM": "QDRANT_VECTOR_DIMENSION",
    "QDRANT_VECTOR_DIMENSIONS": "QDRANT_VECTOR_DIMENSION",
    "QDRANT_VECTOR_SIZE": "QDRANT_VECTOR_DIMENSION",
    "REDIS_PASWORD": "REDIS_PASSWORD",
    "REDIS_PASSWORD_FIEL": "REDIS_PASSWORD_FILE",
    "REDIS_PWD": "REDIS_PASSWORD",
    "REDIS_URI": "REDIS_URL",
    "REIDS_URL": "REDIS_URL",
    "WORKER_CONCURENCY": "WORKER_CONCURRENCY",
    "WORKER_CONCURRENCY_": "WORKER_CONCURRENCY",
    "redis_url": "REDIS_URL",
    "Qdrant_Url": "QDRANT_URL",
    "\ufeffREDIS_URL": "REDIS_URL",
}

WARNINGS = {
    "LOGLEVEL": "LOG_LEVEL",
    "QDRANT_HOST": "QDRANT_URL",
    "QDRANT_PORT": "QDRANT_URL",
    "QDRANT_TIMEOUT": "QDRANT_TIMEOUT_S",
    "QDRANT__SERVICE__API_KEY": "QDRANT_API_KEY",
    "REDIS_DB": "REDIS_URL",
    "REDIS_HOST": "REDIS_URL",
    "REDIS_PORT": "REDIS_URL",
    "REDIS_TIMEOUT": "REDIS_TIMEOUT_S",
    "REDIS_TLS_URL": "REDIS_URL",
    "REDIS_URL_STAGING": "REDIS_URL",
    "REDIS_USER": "REDIS_USERNAME",
    "WORKER_ROLE_ARN": "WORKER_ROLE",
    "port": "PORT",
    "log_level": "LOG_LEVEL",
}

OTHERS = [
    "BIND_PORT",
    "DATABASE_URL",
    "HOSTNAME",
    "HTTP_PORT",
    "PATH",
    "PORTS",
    "QDRANT__LOG_LEVEL",
    "QDRANT_SERVICE_HOST",
    "REDIS_HOST_PORT",
    "REDIS_MAXMEMORY",
    "REDIS_PORT_6379_TCP_ADDR",
    "SEARCH_URL",
    "TEST_REDIS_URL",
    "WEB_CONCURRENCY",
    "XDG_DATA_DIRS",
    "http_proxy",
    "redis_host",
]


@pytest.mark.parametrize(("name", "meant"), ERRORS.items())
def test_a_misspelt_setting_is_an_error(name: str, meant: str) -> None:
    assert misspelt([name], SETTINGS) == [Unknown(name, meant)]
    assert foreign([name], SETTINGS) == []


@pytest.mark.parametrize(("name", "setting"), WARNINGS.items())
def test_a_similar_name_of_another_program_is_a_warning(name: str, setting: str) -> None:
    assert misspelt([name], SETTINGS) == []
    assert foreign([name], SETTINGS) == [Unknown(name, setting)]


@pytest.mark.parametrize("name", [*OTHERS, *sorted(SETTINGS)])
def test_any_other_variable_is_ignored(name: str) -> None:
    assert misspelt([name], SETTINGS) == foreign([name], SETTINGS) == []


def test_the_lists_lead_to_settings_and_contain_none() -> None:
    for listed in (OTHER_PROGRAMS, ALSO_CALLED):
        assert set(listed.values()) <= SETTINGS
        assert not set(listed) & SETTINGS
    assert not set(OTHER_PROGRAMS) & set(ALSO_CALLED)
