"""The demo: the requests of its app, its verdict, and how it looks."""

from __future__ import annotations

from io import BytesIO, TextIOWrapper

import pytest
from rich.console import Console

from memory_worker.commands import demo
from memory_worker.contract import Delete, Hit, Purge, Upsert, WriteJob
from memory_worker.demo.answers import Answer
from memory_worker.demo.dataset import load
from memory_worker.demo.requests import LEAVER, requests_for
from memory_worker.demo.screen import Screen
from memory_worker.demo.verdict import Stored, Verdict, compare, wanted_after
from memory_worker.plain_text import never_fail
from tests.commands import invoked
from tests.demo_output import part_for_the_readme, without_what_varies

DATA = load()
REQUESTS = requests_for(DATA)
WANTED = wanted_after(REQUESTS.in_order())
OLD, NEW = (bytes([0, 0, 128, 63, 0, 0, 0, 0]), bytes([0, 0, 0, 0, 0, 0, 128, 63]))


def stored(write: Upsert, **change: object) -> Stored:
    """Return a point as Qdrant has it after a write."""
    payload = {**write.payload, "user_id": write.user_id, "_point_id": write.point_id, **change}
    return Stored(write.point_id, payload, write.vector)


def upsert(point_id: str, vector: bytes = NEW, **payload: object) -> Upsert:
    return Upsert(user_id=int(point_id.split("_")[1]), point_id=point_id, vector=vector, payload=payload)


class TestRequests:
    def test_in_the_end_the_app_wants_the_data_but_the_deleted_answer(self) -> None:
        everything = {item.point_id: item for item in (*DATA.memories, *DATA.documents)}
        assert everything.keys() - WANTED.there.keys() == {"mem_1730_37"}
        assert WANTED.there.keys() <= everything.keys()
        for point_id, write in WANTED.there.items():
            item = everything[point_id]
            assert (write.user_id, write.payload, write.vector) == (item.user_id, item.payload, item.vector)

    def test_another_order_would_be_noticed(self) -> None:
        in_order = REQUESTS.in_order()
        backwards, deletes_last = in_order[::-1], sorted(in_order, key=lambda request: isinstance(request, Delete))
        found = [
            compare(WANTED, [stored(write) for write in wanted_after(requests).there.values()])
            for requests in (backwards, deletes_last)
        ]
        assert len(found[0].outdated) == REQUESTS.changed - 1  # one of them is deleted later
        assert len(found[0].unwanted) == REQUESTS.deleted + 60
        assert len(found[1].missing) == REQUESTS.rewritten

    def test_first_versions_and_the_leaver_are_pushed_before_and_during_the_outage(self) -> None:
        def of_leaver(requests: list[WriteJob]) -> int:
            return sum(isinstance(request, Upsert) and request.user_id == LEAVER for request in requests)

        assert of_leaver(REQUESTS.all_is_well)
        assert of_leaver(REQUESTS.without_qdrant)
        assert REQUESTS.without_qdrant[-1] == Purge(user_id=LEAVER)


class TestVerdict:
    def test_the_last_request_about_a_point_counts(self) -> None:
        first, last = upsert("mem_1_1", OLD), upsert("mem_1_1")
        other = upsert("mem_2_1")
        wanted = wanted_after([first, last, other, upsert("mem_2_2"), Delete(user_id=2, point_ids=["mem_2_2"])])
        assert (wanted.there, wanted.gone) == ({"mem_1_1": last, "mem_2_1": other}, {"mem_2_2"})
        wanted = wanted_after([first, other, Purge(user_id=1), Delete(user_id=2, point_ids=["mem_2_1"]), other])
        assert (wanted.there, wanted.gone) == ({"mem_2_1": other}, {"mem_1_1"})

    def test_all_is_right(self) -> None:
        verdict = compare(WANTED, [stored(write) for write in WANTED.there.values()])
        assert (verdict.there, verdict.gone, verdict.points, verdict.wrong) == (419, 79, 498, 0)

    def test_a_missing_point_is_named(self) -> None:
        verdict = compare(WANTED, [stored(write) for name, write in WANTED.there.items() if name != "mem_1804_9"])
        assert (verdict.missing, verdict.wrong) == (["mem_1804_9"], 1)

    @pytest.mark.parametrize(
        "point",
        [
            stored(upsert("mem_1_1", value="new"), value="old"),
            stored(upsert("mem_1_1", value="new"), user_id=2),
            stored(upsert("mem_1_1", OLD, value="new")),
            stored(upsert("mem_1_1", b"", value="new")),
            Stored("mem_1_1", {"user_id": 1}, NEW),
        ],
    )
    def test_an_outdated_point_is_named(self, point: Stored) -> None:
        verdict = compare(wanted_after([upsert("mem_1_1", value="new")]), [point])
        assert (verdict.outdated, verdict.wrong) == (["mem_1_1"], 1)

    def test_what_comes_back_is_named(self) -> None:
        kept, deleted = upsert("mem_1_1"), upsert("mem_1_2")
        wanted = wanted_after([kept, deleted, Delete(user_id=1, point_ids=["mem_1_2"])])
        points = [stored(kept), stored(kept), stored(deleted), stored(upsert("mem_9_9"))]
        verdict = compare(wanted, points)
        assert (verdict.unwanted, verdict.wrong) == (["mem_1_1", "mem_1_2", "mem_9_9"], 3)

    @pytest.mark.parametrize(("right", "status"), [(True, 0), (False, 1)])
    def test_it_is_the_exit_status(self, monkeypatch: pytest.MonkeyPatch, right: bool, status: int) -> None:
        monkeypatch.setattr(demo, "tell", lambda *_, **__: right)
        assert invoked("demo").exit_code == status


class Printed:
    """What a screen prints on a terminal of 80 columns."""

    def __init__(self, encoding: str = "utf-8", **options: object) -> None:
        self._raw = BytesIO()
        stream = TextIOWrapper(self._raw, encoding=encoding, write_through=True)
        never_fail(stream)
        self.screen = Screen(Console(file=stream, width=80, highlight=False, **options), 100)  # type: ignore[arg-type]
        self._encoding = encoding

    def lines(self) -> list[str]:
        return self._raw.getvalue().decode(self._encoding).splitlines()


class TestScreen:
    def test_a_bad_verdict_says_how_many_and_which(self) -> None:
        printed = Printed()
        printed.screen.verdict(Verdict(6, 4, ["mem_1_1"], [f"mem_1_{number}" for number in range(2, 9)], ["doc_1_1_1"]))
        first, lost, outdated, unwanted = printed.lines()
        assert first == "  1 of 10 points are as the app asked, 9 not."
        assert lost == "  1 lost: mem_1_1"
        assert outdated == "  7 out of date: mem_1_2, mem_1_3, mem_1_4, mem_1_5, mem_1_6 and 2 more"
        assert unwanted == "  1 not wanted, but there: doc_1_1_1"

    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_all_answers_fit_into_80_columns(self, encoding: str) -> None:
        printed = Printed(encoding)
        for right in (True, False):
            printed.screen.answers(
                [
                    Answer(question, [Hit(item.point_id, 0.5, item.payload)], 1.0, right=right, deleted=not right)
                    for question, item in zip(DATA.questions, DATA.documents[:25], strict=True)
                ]
            )
        assert all(len(line) <= 80 and line == line.rstrip() for line in printed.lines())
        assert sum("WRONG" in line for line in printed.lines()) == len(DATA.questions)
        assert any("Wo schl" in line for line in printed.lines())

    def test_an_answer_cannot_control_the_terminal(self) -> None:
        printed = Printed()
        hit = Hit("mem_1_1", 0.5, {"value": "\x1b[2J [red]x[/]"})
        printed.screen.answers([Answer(DATA.questions[0], [hit], 1.0, right=True, deleted=False)])
        assert printed.lines()[1].strip() == r"\x1b[2J [red]x[/]"

    def test_only_a_terminal_shows_the_bar(self) -> None:
        plain, dumb, terminal = (
            Printed(),
            Printed(force_terminal=True, _environ={"TERM": "dumb"}),
            Printed(force_terminal=True, _environ={"TERM": "xterm", "NO_COLOR": "1"}),
        )
        for printed in (plain, dumb, terminal):
            with printed.screen:
                printed.screen.say("[red]Qdrant is killed.[/]", state="Qdrant is down")
                printed.screen.progress(30, 20)
                printed.screen.say("More.")
        for printed in (plain, dumb):
            assert [line[9:] for line in printed.lines()] == ["Qdrant is killed.", "More."]
        shown = "\n".join(terminal.lines())
        assert "10 applied, 20 waiting, Qdrant is down" in shown
        assert "\x1b[31m" not in shown


def test_the_part_for_the_readme_has_no_figures_that_vary() -> None:
    output = "  1.2 s  Qdrant is killed.\n  9.9 s  254 requests still wait. A write takes 1.0 ms.\n\n"
    rest = "Searches  25 of 25\n  user 1\n\nVerdict  all\n  498 of 498 points\n"
    other = output.replace("254", "9").replace("1.0", "12.3").replace("  9.9", " 10.1")
    found = [without_what_varies(part_for_the_readme(f"{text}{rest}\nNext\n  run\n")) for text in (output, other)]
    assert found[0] == found[1]
    assert "498 of 498" in found[0]
    assert "Searches" not in found[0]
    assert "Next" not in found[0]
