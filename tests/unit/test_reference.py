"""The generated parts of docs/ and .env.example are up to date and complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from prometheus_client.metrics import MetricWrapperBase

from memory_worker.commands.main import COMMANDS
from memory_worker.commands.reference import commands, contract, events, metrics, settings
from memory_worker.commands.reference.__main__ import ENV_FILE, PAGES, main, outdated, updated
from memory_worker.settings import Settings
from memory_worker.telemetry import metrics as telemetry
from memory_worker.telemetry.events import EVENTS
from memory_worker.wire.keys import Keys
from memory_worker.wire.scripts import scripts
from tests.documents import ROOT, prose, sections

CONTRACT = ROOT / "docs" / "contract.md"
UPDATE = "run python -m memory_worker.commands.reference --write"


def column(table: str, number: int = 0) -> list[str]:
    """Return the cells of a column of Markdown tables, without their heads."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return [row[number].strip("`") for row in rows]


@pytest.fixture(scope="module")
def logged() -> list[events.LoggedEvent]:
    """The calls of `log_event`. To find them, the whole package is parsed."""
    return list(events.logged_events())


class TestPages:
    def test_they_are_up_to_date(self) -> None:
        assert [path.name for path, _ in outdated(ROOT)] == [], UPDATE

    def test_they_are_updated_where_the_command_is_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in PAGES:
            page = (ROOT / name).read_text("utf-8")
            stale = re.sub(r"(<!-- generated: .+ -->\n).*?(<!-- end)", r"\1stale\n\2", page, flags=re.DOTALL)
            assert "stale" in stale
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(stale, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        named = "".join(f"{name}\n" for name in (*PAGES, ENV_FILE))
        only_named = CliRunner().invoke(main, [])
        assert (only_named.exit_code, only_named.output) == (1, named)
        assert not (tmp_path / ENV_FILE).exists()
        written = CliRunner().invoke(main, ["--write"])
        assert (written.exit_code, written.output) == (0, named)
        for name in (*PAGES, ENV_FILE):
            assert (tmp_path / name).read_text("utf-8") == (ROOT / name).read_text("utf-8")
        assert CliRunner().invoke(main, []).exit_code == 0

    def test_a_page_with_other_marks_is_refused(self) -> None:
        with pytest.raises(ValueError, match="marks"):
            updated("# Settings\n", {"settings": settings.tables})


class TestSettings:
    def test_every_setting_is_in_one_group(self) -> None:
        assert column(settings.tables()) == [name.upper() for name in Settings.model_fields]

    def test_the_env_file_sets_nothing(self) -> None:
        assert not [line for line in settings.env_file().splitlines() if line and not line.startswith("#")]

    def test_the_values_of_the_env_file_are_the_defaults(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = dict(re.findall(r"^#([A-Z_]+)=(.*)$", settings.env_file(), re.MULTILINE))
        assert [*found] == [name.upper() for name in Settings.model_fields]
        for name in found:
            monkeypatch.delenv(name, raising=False)
        defaults = Settings()
        for name, value in found.items():
            monkeypatch.setenv(name, value)
        assert Settings() == defaults


class TestMetrics:
    def test_all_are_listed(self) -> None:
        there = [one.describe()[0] for one in vars(telemetry).values() if isinstance(one, MetricWrapperBase)]
        assert {family.name for family in there} == {
            name.removesuffix("_total") for name in column(metrics.of_process())
        }
        assert column(metrics.of_queue()) == [f"{telemetry.PREFIX}_{name}" for name in telemetry.QUEUE_GAUGES]

    @pytest.mark.parametrize("name", EVENTS)
    def test_every_event_is_logged(self, name: str, logged: list[events.LoggedEvent]) -> None:
        calls = [call for call in logged if call.name == name]
        assert calls
        assert all(call.levels for call in calls)

    def test_every_logged_event_has_a_meaning(self, logged: list[events.LoggedEvent]) -> None:
        assert {call.name for call in logged} <= EVENTS.keys()


def test_every_command_has_a_section() -> None:
    found = re.findall(r"^## memory-worker (\w+)", commands.sections(), re.MULTILINE)
    assert {*found} == COMMANDS.keys()


class TestContract:
    def test_keys_are_those_of_the_code(self) -> None:
        keys = Keys()
        assert set(column(contract.keys())) == {
            *(keys.meta, keys.since, keys.backlog, keys.pushed("{token}"), keys.reply("{job}")),
            *(keys.stream("{p}"), keys.applied("{p}"), keys.dead("{p}")),  # type: ignore[arg-type]
            *(keys.removed("{p}"), keys.outcomes),  # type: ignore[arg-type]
            *(keys.overflow_users("{p}"), keys.overflow_counts("{p}")),  # type: ignore[arg-type]
            *(keys.drain_queue, keys.search_queue, keys.writes_queue, keys.drain_wakeup, keys.search_wakeup),
            *(keys.search_calls, keys.search_taker),
        }

    @pytest.mark.parametrize("name", ["push", "call", "cancel", "states"])
    def test_the_head_of_a_script_names_all_that_it_uses(self, name: str) -> None:
        head, source = contract.script_head(name), scripts.source(name)
        assert "KEYS" in head
        assert "ARGV" in head
        assert "local" not in head
        fixed = head.partition("KEYS")[2].partition("then for each")[0].partition("ARGV")[0]
        assert int(max(re.findall(r"KEYS\[(\d+)\]", source))) == len(re.findall(r"(?:mw|arq):[\w:]+", fixed))

    def test_every_error_of_a_script_is_explained(self) -> None:
        words = re.compile(r"'((?:QUEUEFULL \w+|[A-Z]{6,})) '")
        found = {word for name in ("push", "call") for word in words.findall(scripts.source(name))}
        assert found == {"QUEUEFULL jobs", "QUEUEFULL bytes", "QUEUEFULL reads", "PARTITIONS", "TOOLARGE", "TOOLATE"}
        assert not [word for word in found if f"`{word} " not in prose(CONTRACT)]

    def test_every_code_of_a_failed_read_is_explained(self) -> None:
        explained = re.findall(r"^\| `(\w+)` \|", sections(CONTRACT)["replies"].partition("<!-- end")[2], re.MULTILINE)
        assert {*explained} == {*telemetry.READ_OUTCOMES} - {"ok"}
