"""The pages of the console as functions from values to what is shown."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from memory_worker.console.charts import HEIGHT, Line, chart, nice_top, window_s
from memory_worker.console.masks import MASK, shown_detail, shown_job
from memory_worker.console.overview import charts, problems, totals
from memory_worker.console.page_cache import Made, PageCache
from memory_worker.console.partitions import CELL, COLUMNS, busiest, cells
from memory_worker.console.query import Query
from memory_worker.console.rendering import Renderer
from memory_worker.console.words import NOTHING, bytes_of, rate_of, seconds_of, whole
from memory_worker.contract import Purge, Receipt, Upsert, encode_job
from memory_worker.contract.errors import RequestRefused
from memory_worker.inspection.fleet import Member
from memory_worker.inspection.history import Sample
from memory_worker.queue.dead_letters import DeadLetter
from memory_worker.queue.processes import Process
from memory_worker.telemetry.health import Component
from memory_worker.wire.pause import Pause
from tests.console_states import hour, large, sources
from tests.unit.queue_stats import STATUS

UP = {"redis": Component(up=True)}
SECRET = "the user likes red wine"


def member(role: str) -> Member:
    return Member(Process("0123", role, "host", 1), None)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (whole(12345), "12,345"),
        (whole(None), NOTHING),
        (rate_of(0), "0"),
        (rate_of(0.0517), "0.052"),
        (rate_of(20.0), "20"),
        (rate_of(12345.6), "12,346"),
        (seconds_of(0.0034), "3.4 ms"),
        (seconds_of(0.12), "120 ms"),
        (seconds_of(2), "2.0 s"),
        (seconds_of(4000), "67 min"),
        (bytes_of(512), "512 B"),
        (bytes_of(4_194_304), "4.0 MiB"),
        (bytes_of(5e12), "4,657 GiB"),
    ],
)
def test_figures_have_units_and_few_digits(shown: str, text: str) -> None:
    assert shown == text


class TestProblems:
    def texts(self, status: Any, components: Any = UP, members: Any = ()) -> list[str]:
        return [f"{one.level}: {one.text}" for one in problems(status, components, members)]

    def test_a_queue_without_problems_has_none(self) -> None:
        fine = msgspec.structs.replace(STATUS, partitions=[], dead=0, max_jobs=0, max_bytes=0)
        assert self.texts(fine, members=[member("all")]) == []

    def test_what_is_down_comes_first_and_has_its_reason(self) -> None:
        found = self.texts(STATUS, {**UP, "qdrant": Component(up=False, reason="refused")})
        assert found[0] == "failed: qdrant is down in this process: refused"
        assert "warning: 1 partition held for another worker. Needed: contract version 9." in found
        assert "warning: 2 dead letters to replay or drop." in found

    def test_missing_stats_are_a_problem(self) -> None:
        assert self.texts(None) == ["warning: There are no queue stats yet. A worker collects them every few seconds."]

    def test_jobs_without_a_worker_of_their_role_are_a_problem(self) -> None:
        found = self.texts(STATUS, members=[member("search")])
        assert "failed: 4 writes wait, but no worker with the role ingest is alive." in found
        found = self.texts(STATUS, members=[member("ingest")])
        assert "failed: 3 reads wait, but no worker with the role search is alive." in found

    def test_limits_are_a_problem_before_they_are_reached(self) -> None:
        near = msgspec.structs.replace(STATUS, waiting_bytes=950, redis_memory_bytes=2000)
        found = self.texts(near)
        assert "warning: The queue holds 95% of the bytes that QUEUE_MAX_BYTES allows." in found
        assert "failed: Redis uses 100% of the memory that maxmemory allows." in found

    def test_a_pause_is_shown(self) -> None:
        paused = msgspec.structs.replace(STATUS, paused=Pause(1_790_000_000.0, "ops", "a backup"))
        found = next(one for one in self.texts(paused) if "paused since 2026-09-21" in one)
        assert "by ops: a backup. Workers apply no writes" in found

    def test_only_some_of_many_names_are_shown(self) -> None:
        found = next(one for one in self.texts(large()) if "Qdrant reports an error" in one)
        assert found.endswith("and 5 more.")


def test_totals_have_the_share_of_their_limits() -> None:
    found = {one.name: (one.value, one.note, one.share) for one in totals(STATUS)}
    assert found["Writes waiting"] == ("4", "of 10", 0.4)
    assert found["Bytes waiting"] == ("400 B", "of 1,000 B", 0.4)
    assert found["Dead letters"][0] == "2"
    unlimited = msgspec.structs.replace(STATUS, max_jobs=0)
    assert {one.name: one.note for one in totals(unlimited)}["Writes waiting"] == "no limit"


class TestPartitions:
    def test_held_ones_come_first_and_then_the_longest(self) -> None:
        found = busiest(large().partitions)
        assert [state.held for state in found[:6]] == [True] * 5 + [False]
        assert found[5].waiting == max(state.waiting for state in found)

    def test_the_map_has_each_partition_once_with_its_overflow_stream(self) -> None:
        found = cells(large().partitions)
        assert len(found) == 1024
        assert (found[33].x, found[33].y) == (33 % COLUMNS * CELL, CELL)
        assert found[7].state == "held"
        assert "98,765" in cells([one for one in large().partitions if one.partition in (0, 1024 + 60)])[1].text


class TestCharts:
    def sample(self, at: float, applied: float) -> Sample:
        return msgspec.structs.replace(hour(0.0)[0], at=at, applied=applied)

    def drawn(self, *samples: Sample, now: float = 300.0) -> Any:
        lines = [Line("applied", lambda one: one.applied, is_filled=True)]
        return chart("Writes", "per second", samples, lines, shown=rate_of, now=now)

    def test_the_largest_value_is_below_the_top(self) -> None:
        assert [nice_top(most) for most in (0, 0.003, 7, 10, 1234, 9999)] == [1, 0.003, 8, 10, 1500, 10_000]

    def test_a_line_goes_from_the_left_to_now(self) -> None:
        found = self.drawn(self.sample(270, 0), self.sample(285, 5), self.sample(300, 10))
        assert found.lines[0].path == f"M540.0 {HEIGHT:.1f}L570.0 62.0L600.0 4.0"
        assert (found.top, found.begins) == ("10", "5 min ago")
        assert found.summary == "applied now 10, at most 10"
        assert found.slots[-1].text.endswith("UTC: applied 5")

    def test_a_gap_interrupts_the_line(self) -> None:
        found = self.drawn(self.sample(100, 1), self.sample(110, 1), self.sample(200, 1), self.sample(210, 1))
        assert found.lines[0].path.count("M") == 2

    def test_a_single_sample_is_visible(self) -> None:
        assert self.drawn(self.sample(300, 1)).lines[0].path == "M580.0 4.0L600.0 4.0"

    def test_without_samples_there_is_nothing_to_draw(self) -> None:
        found = charts([], 0.0)
        assert all(one.is_empty for one in found)
        assert found[0].lines[0].latest == NOTHING

    def test_the_time_shown_grows_with_the_history(self) -> None:
        assert [window_s([self.sample(0, 1)], now) for now in (10, 400, 1000, 5000)] == [300, 900, 1800, 3600]


class TestQuery:
    def test_unknown_and_empty_parameters_are_left_out(self) -> None:
        query = Query.of("/dead-letters", {}, {"user": " 7 ", "op": "", "x": "1"}, ("op", "user"))
        assert (query.key, query.get("op")) == ("/dead-letters?user=7", "")

    @pytest.mark.parametrize(
        ("path", "root"), [("/", "./"), ("/check", "./"), ("/dead-letters/3/17-0", "../../"), ("/a/", "../")]
    )
    def test_the_way_to_the_first_page(self, path: str, root: str) -> None:
        assert Query(path).root == root

    @pytest.mark.parametrize(("given", "refresh"), [("0", 0), ("60", 60), ("1", 10), ("x", 10), ("", 10), ("²", 10)])
    def test_only_some_intervals_are_allowed(self, given: str, refresh: int) -> None:
        assert Query("/", given={"refresh": given}).refresh == refresh


class TestMasks:
    def letter(self, body: bytes, detail: str = "", reason: str = "refused") -> DeadLetter:
        return DeadLetter(
            receipt=Receipt(3, "17-0"),
            position="17-0",
            reason=reason,
            detail=detail,
            op="upsert",
            user_id="7",
            ref="memory 1",
            died_s=1.0,
            version=2,
            size=len(body),
            body=body,
        )

    def job(self, **payload: Any) -> bytes:
        return encode_job(Upsert(user_id=7, point_id="mem_7_1", vector=b"\0" * 64, payload=payload, ref="memory 1"))

    def test_values_are_described_instead_of_shown(self) -> None:
        body = self.job(value=SECRET, created=1_790_000_000, active=True, tags=["red", "wine"], more={"a": SECRET})
        shown = shown_job(self.letter(body), payloads=False)
        assert shown.fields is not None
        assert {field.path: field.value for field in shown.fields} == {
            "op": "upsert",
            "user_id": "7",
            "point_id": "mem_7_1",
            "vector": "16 dimensions, 64 bytes",
            "payload.value": f"text, {len(SECRET)} characters",
            "payload.created": "an integer",
            "payload.active": "a boolean",
            "payload.tags": "list, 2 values",
            "payload.more": "map, 1 field",
            "ref": "memory 1",
        }

    def test_texts_that_select_points_are_masked_too(self) -> None:
        shown = shown_job(self.letter(encode_job(Purge(user_id=7, kind="memory", category=SECRET))), payloads=False)
        assert SECRET not in repr(shown)
        assert "kind" in repr(shown)

    @pytest.mark.parametrize(
        "detail",
        [
            f"value {SECRET} is bad",
            f"bad: {SECRET!r}",
            f"Wrong input: {SECRET[:15]}",
            "created is 1790000000, too late",
        ],
    )
    def test_values_are_removed_from_the_detail(self, detail: str) -> None:
        shown = shown_job(self.letter(self.job(value=SECRET, created=1_790_000_000), detail), payloads=False)
        assert MASK in shown.detail
        assert not {"red wine", "likes", "1790000000"} & set(shown.detail.split(" ")), shown.detail
        assert SECRET[:15] not in shown.detail

    def test_the_list_shows_only_the_code_of_an_error_of_qdrant(self) -> None:
        letter = self.letter(b"", f"INVALID_ARGUMENT: Wrong input: {SECRET}")
        assert shown_detail(letter, payloads=False) == f"INVALID_ARGUMENT: {MASK}"
        assert shown_detail(self.letter(b"", SECRET), payloads=False) == MASK
        assert SECRET in shown_detail(letter, payloads=True)
        assert shown_detail(self.letter(b"", "vector: expected 4", "invalid"), payloads=False) == "vector: expected 4"
        assert SECRET not in shown_detail(self.letter(b"", f"op: `{SECRET}`", "malformed"), payloads=False)

    def test_with_payloads_all_but_the_vector_is_shown(self) -> None:
        shown = shown_job(self.letter(self.job(value=SECRET, more={"a": [1]})), payloads=True)
        assert shown.fields is not None
        values = {field.path: field.value for field in shown.fields}
        assert (values["payload.value"], values["payload.more"]) == (SECRET, '{"a":[1]}')
        assert values["vector"] == "16 dimensions, 64 bytes"

    def test_bytes_of_an_unreadable_job_are_shown_only_with_payloads(self) -> None:
        letter = self.letter(b"\xc1 no job" * 100)
        assert shown_job(letter, payloads=False) == ("", None, "")
        dump = shown_job(letter, payloads=True).dump
        assert dump.startswith("0000  c1 20 6e 6f 20 6a 6f 62")
        assert dump.endswith("... 288 more bytes")


class TestPageCache:
    async def test_a_page_is_made_once_for_all_who_ask_meanwhile(self) -> None:
        cache, made, goes_on = PageCache(), [], asyncio.Event()

        async def make() -> Made:
            made.append(1)
            await goes_on.wait()
            return Made(200, "page")

        asking = [asyncio.create_task(cache.get("/", make)) for _ in range(20)]
        await asyncio.sleep(0)
        asking[0].cancel()  # one of them goes away
        await asyncio.sleep(0)
        goes_on.set()
        assert await asyncio.gather(*asking[1:]) == [Made(200, "page")] * 19
        assert await cache.get("/", make) == Made(200, "page")
        assert len(made) == 1
        cache.clear()
        await cache.get("/", make)
        assert len(made) == 2

    async def test_only_some_pages_are_kept(self) -> None:
        cache = PageCache()

        async def make() -> Made:
            return Made(200, "")

        for number in range(500):
            await cache.get(str(number), make)
        assert len(cache._pages) <= 64

    async def test_a_page_that_takes_long_is_followed_by_a_rest(self) -> None:
        cache = PageCache()

        async def make() -> Made:
            until = time.thread_time() + 0.05
            while time.thread_time() < until:
                pass
            return Made(200, "")

        await cache.get("a", make)
        assert cache._free_at - time.monotonic() > 0.05
        assert cache._pages["a"].until - time.monotonic() > 2  # it is shown for longer than a page that takes little

    async def test_only_some_pages_wait(self) -> None:
        cache, goes_on = PageCache(), asyncio.Event()

        async def make() -> Made:
            await goes_on.wait()
            return Made(200, "")

        asking = [asyncio.create_task(cache.get(str(number), make)) for number in range(100)]
        await asyncio.sleep(0)
        goes_on.set()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert sum(isinstance(one, RequestRefused) for one in found) == 36
        assert await cache.get("100", make) == Made(200, "")

    async def test_a_failed_page_fails_for_those_who_asked(self) -> None:
        cache = PageCache()

        async def make() -> Made:
            raise ValueError("x")

        with pytest.raises(ValueError, match="x"):
            await cache.get("/", make)


def test_foreign_text_is_escaped_and_printable() -> None:
    renderer = Renderer(sources(None, []))
    text = '<script>alert("x")</script>\u202e\n\x00'
    html = renderer.page("message", Query("/"), status_code=404, text=text)
    assert "<script>" not in html
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;\\u202e\\n\\x00" in html
