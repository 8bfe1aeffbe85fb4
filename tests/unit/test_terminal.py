"""Foreign text on a terminal: it cannot control the terminal, and no encoding makes a command fail."""

from __future__ import annotations

import json
from io import BytesIO, TextIOWrapper

import pytest
from rich.console import Console

from memory_worker.plain_text import never_fail, plain, print_json
from memory_worker.terminal import Sheet, foreign, styled


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b", "a b"),
        ("Käse 東京 😀", "Käse 東京 😀"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("a\nb\tc\rd\x00\x7f", r"a\nb\tc\rd\x00\x7f"),
        ("\x9b2J", r"\x9b2J"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2028\u2066\ud800", r"\u2028\u2066\ud800"),
    ],
)
def test_text_that_cannot_be_printed_is_escaped(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_text_that_the_terminal_cannot_encode_is_escaped() -> None:
    assert plain("Käse 東", "ascii") == r"K\xe4se \u6771"
    assert plain("Käse 東", "latin-1") == r"Käse \u6771"


def ascii_console() -> tuple[Console, BytesIO]:
    raw = BytesIO()
    stream = TextIOWrapper(raw, encoding="ascii", write_through=True)
    never_fail(stream)
    return Console(file=stream, width=80), raw


def test_a_table_keeps_its_shape_on_an_ascii_terminal() -> None:
    console, raw = ascii_console()
    sheet = Sheet(console, "Tïtle")
    sheet.columns("one")
    sheet.columns("two", right=True)
    sheet.row("Käse", "1")
    sheet.row("[bold]x[/]", styled("[red]2[/]"))
    sheet.show()
    console.print(foreign("東 [b]", console))
    lines = raw.getvalue().decode("ascii").splitlines()
    table = [line for line in lines if line.startswith(("|", "+"))]
    assert len({len(line) for line in table}) == 1
    assert any(r"K\xe4se" in line for line in table)
    assert any("[bold]x[/]" in line for line in table)
    assert lines[-1] == r"\u6771 [b]"


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"detail": "Käse \x9b\ud800"}
    print_json(document)
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert json.loads(shown) == document
