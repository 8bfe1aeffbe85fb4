"""What is asked for, and mistakes in it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from memory_worker.bench.command_line import options
from memory_worker.bench.options import OWN, PEERS, Options
from memory_worker.commands.main import main
from memory_worker.contract.errors import ConfigurationError


def test_all_our_own_phases_unless_told_otherwise_and_peers_when_asked_for() -> None:
    assert [name for name in (*OWN, *PEERS) if Options().wants(name)] == list(OWN)
    assert all(Options(peers=True).wants(name) for name in (*OWN, *PEERS))
    only = Options(only=("drain", "arq"))
    assert [name for name in (*OWN, *PEERS) if only.wants(name)] == ["drain", "arq"]


def test_lists_on_the_command_line() -> None:
    assert options(only="", delays="0, 0.5,1,5").delays_ms == Options().delays_ms
    assert options(only="push, drain", delays="") == Options(only=("push", "drain"), delays_ms=())


@pytest.mark.parametrize("text", ["1;2", "x", "-1", "nan", "inf"])
def test_wrong_numbers(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--delays"):
        options(only="", delays=text)


@pytest.mark.parametrize(
    "arguments", [["--only", "pull"], ["--delays", "fast"], ["--rounds", "0"], ["--points", "0"], ["--seconds", "0"]]
)
def test_wrong_options_are_named_and_end_with_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["bench", *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.output
