"""The console of a running worker, as a browser without scripts would use it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from memory_worker.client.memory_queue import MemoryQueue
from memory_worker.console import actions
from memory_worker.console import page_cache as cache_module
from memory_worker.contract import Receipt, Upsert, encode_job, partition_of
from memory_worker.inspection import history as history_module
from memory_worker.queue import processes
from memory_worker.runtime import process as app_module
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Dead, Events, MakeSettings, running
from tests.integration.jobs import PARTITIONS, axis
from tests.integration.proxies import RedisProxy
from tests.integration.web import Answer, ask

PASSWORD = "correct horse battery"
HOSTILE = "<script>alert('x')</script>"
PAGES = ("/", "/partitions", "/partitions?show=all", "/collections", "/dead-letters", "/check", "/settings")
COOKIE = "memory_worker_console"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a new page for each request, and collect what they show often."""
    monkeypatch.setattr(cache_module, "LIFE_S", 0.0)
    monkeypatch.setattr(cache_module, "LIFE_PER_CPU", 0.0)
    monkeypatch.setattr(app_module, "_STATS_EVERY_S", 0.1)
    monkeypatch.setattr(history_module, "EVERY_S", 0.1)
    monkeypatch.setattr(processes, "_INTERVAL_S", 0.1)
    monkeypatch.setattr(processes, "_BEATS_PER_REPORT", 1)


class Browser:
    """Asks for pages, and keeps the cookie. Forms are sent with their hidden fields."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""

    async def get(self, path: str, **headers: str) -> Answer:
        return self._kept(await asyncio.to_thread(ask, self.port, path, Cookie=self.cookie, **headers))

    async def text(self, path: str) -> str:
        answer = await self.get(path)
        assert answer.status == 200, (path, answer.status)
        return unescape(answer.body.decode())

    async def post(self, path: str, form: dict[str, str], **headers: str) -> Answer:
        given = {"Origin": f"http://127.0.0.1:{self.port}", "Cookie": self.cookie, **headers}
        given["Content_Type"] = "application/x-www-form-urlencoded"
        body = urlencode(form).encode()
        return self._kept(await asyncio.to_thread(ask, self.port, path, method="POST", body=body, **given))

    async def form(self, path: str, action: str) -> dict[str, str]:
        """Return the hidden fields of the form of a page that is sent to ``action``."""
        text = await self.text(path)
        (form,) = re.findall(rf'<form[^>]* method="post" action="{action}".*?</form>', text, re.DOTALL)
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="(.*?)">', form))

    async def log_in(self, password: str = PASSWORD) -> Answer:
        answer = await self.get("/login")
        token = re.findall(r'name="token" value="(\w+)"', answer.body.decode())[0]
        return await self.post("/login", {"token": token, "password": password})

    async def until(self, path: str, met: Callable[[str], Any]) -> str:
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while not met(text := await self.text(path)):  # noqa: ASYNC110  # a page has no signal for a change
                await asyncio.sleep(0.05)
        return text

    def _kept(self, answer: Answer) -> Answer:
        if found := re.match(rf"{COOKIE}=([^;]*)", answer.headers.get("set-cookie", "")):
            self.cookie = f"{COOKIE}={found[1]}"
        return answer


@pytest.fixture
def console(settings: MakeSettings, events: Events) -> Callable[..., Any]:
    """Run a worker, and yield a browser."""

    @asynccontextmanager
    async def run(**overrides: Any) -> AsyncIterator[Browser]:
        async with running(settings(**overrides)):
            yield Browser(events.of("http")[-1]["port"])

    return run


@pytest.fixture
def with_login(console: Callable[..., Any]) -> Callable[..., Any]:
    """Run a worker with actions, and yield a browser that is logged in."""

    @asynccontextmanager
    async def run(**overrides: Any) -> AsyncIterator[Browser]:
        chosen = {"console_password": SecretStr(PASSWORD), "console_actions": True, **overrides}
        async with console(**chosen) as browser:
            assert (await browser.log_in()).status == 303
            yield browser

    return run


Die = Callable[..., Awaitable[list[Receipt]]]


@pytest.fixture
def die(redis: Redis, keys: Keys, dead_letters: Dead) -> Die:
    """Push jobs that become dead letters, and return their receipts."""

    async def do(*users: int, ref: str = "memory 1", value: str = "red wine", bodies: tuple[bytes, ...] = ()) -> Any:
        before = len(await dead_letters())
        jobs = [
            (
                partition_of(user, PARTITIONS),
                encode_job(
                    Upsert(
                        user_id=user,
                        point_id=f"mem_{user}_{number}",
                        vector=b"\0" * 4,
                        ref=ref,
                        payload={"value": value},
                    )
                ),
            )
            for number, user in enumerate(users)
        ]
        receipts = await push(redis, keys, PARTITIONS, [*jobs, *((0, body) for body in bodies)])
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while len(await dead_letters()) < before + len(receipts):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return receipts

    return do


class TestPages:
    async def test_every_page_is_there_with_safe_headers(self, console: Any, queue: MemoryQueue) -> None:
        async with console() as browser:
            await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0)))
            for path in (*PAGES, "/console.css", "/icon.svg"):
                answer = await browser.get(path)
                assert answer.status == 200, path
                csp = answer.headers["content-security-policy"]
                assert csp.startswith("default-src 'none'; style-src 'self'")
                assert "frame-ancestors 'none'" in csp
                assert "script" not in csp
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["x-frame-options"] == "DENY"
                if path in PAGES:
                    assert answer.headers["cache-control"] == "no-store"
                assert b"<script" not in answer.body
                assert not re.search(rb"(?:src|href)=.?(?:https?:)?//", answer.body), path
            page = (await browser.get("/")).body.decode()
            for address in re.findall(r'<link [^>]*href="\./([^"]+)"', page):
                assert re.fullmatch(r"(console\.css|icon\.svg)\?[0-9a-f]{12}", address)
                assert "immutable" in (await browser.get(f"/{address}")).headers["cache-control"]
            head = await asyncio.to_thread(ask, browser.port, "/", method="HEAD")
            assert (head.status, head.body) == (200, b"")

    async def test_the_overview_shows_queue_workers_and_history(
        self, console: Any, queue: MemoryQueue, redis: Redis, keys: Keys
    ) -> None:
        async with console() as browser:
            await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_1", vector=axis(0)))
            await queue.search(user_id=1, vector=axis(0))
            await push(redis, keys, PARTITIONS, [(0, b"of a newer contract")], version=9)

            def complete(text: str) -> bool:
                return "1 partition held" in text and "this one" in text and re.search(r"applied (?!0, )[\d.]+", text)

            text = await browser.until("/", complete)
            assert "Needed: contract version 9" in text
            assert "from push to applied" in text.lower()
            assert f"of {PARTITIONS}" in text

    async def test_collections_and_checks_and_settings(self, console: Any, settings: MakeSettings) -> None:
        async with console() as browser:
            name = settings().qdrant_memories_collection
            assert "green" in await browser.until("/collections", lambda text: name in text)
            checks = await browser.until("/check", lambda text: "Qdrant version" in text)
            assert f"collection {name}" in checks
            shown = await browser.text("/settings")
            assert "QUEUE_PREFIX" in shown
            assert settings().queue_prefix in shown

    async def test_checks_are_not_run_for_each_viewer(self, console: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        runs = 0
        run = app_module.ConsoleWiring._checks

        async def counted(self: Any) -> Any:
            nonlocal runs
            runs += 1
            return await run(self)

        monkeypatch.setattr(app_module.ConsoleWiring, "_checks", counted)
        async with console() as browser:
            answers = await asyncio.gather(*(browser.get("/check") for _ in range(10)))
            assert {answer.status for answer in answers} == {200}
            await browser.until("/check", lambda text: "Qdrant version" in text)
        assert runs == 1

    async def test_unknown_pages_and_methods(self, console: Any) -> None:
        async with console() as browser:
            assert (await browser.get("/nothing")).status == 404
            assert (await browser.get("/dead-letters/1/nonsense")).status == 404
            assert (await browser.get("/dead-letters/99999/1-0")).status == 404
            assert (await browser.post("/", {})).status == 405
            for path in ("/login", "/dead-letters/act", "/dead-letters/confirm", "/dead-letters/0/1-0/drop"):
                assert (await browser.post(path, {})).status in (404, 405), path

    async def test_the_console_can_be_turned_off(self, console: Any) -> None:
        async with console(console_enabled=False) as browser:
            answer = await browser.get("/")
            assert (answer.status, answer.body) == (404, b"not found\n")
            assert (await browser.get("/livez")).status == 200

    async def test_a_page_that_fails_is_logged_and_shows_no_traceback(
        self, console: Any, events: Events, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with console() as browser:
            await browser.text("/")
            monkeypatch.setattr("memory_worker.console.overview.totals", lambda _: 1 / 0)
            answer = await browser.get("/")
        assert answer.status == 500
        assert b"Traceback" not in answer.body
        assert b"division" not in answer.body
        assert events.of("console_failed") == [{"path": "/"}]

    async def test_redis_may_be_away(self, console: Any, redis_proxy: RedisProxy) -> None:
        chosen = {"redis_url": SecretStr(redis_proxy.url), "redis_timeout_s": 0.3}
        async with console(**chosen) as browser:
            await browser.text("/")
            redis_proxy.hang()
            for path in ("/", "/dead-letters", "/dead-letters/0/1-0"):
                assert "Redis cannot be used" in await browser.text(path), path
            assert "Partitions" in await browser.text("/partitions")
            redis_proxy.go_on()
            await browser.until("/dead-letters", lambda text: "There are no dead letters" in text)


class TestDeadLetters:
    async def test_filters_and_paging(self, console: Any, die: Die, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("memory_worker.console.dead_pages.ROWS", 2)
        async with console() as browser:
            receipts = [*await die(1), *await die(2), *await die(1), *await die(bodies=(b"\xc1",))]
            order = [str(receipt) for receipt in reversed(receipts)]

            async def listed(path: str) -> tuple[list[str], str]:
                text = await browser.text(path)
                following = re.findall(r'href="\?([^"]*)">(?:Older|Look)', text)
                return re.findall(r"<code>(\d+/\d+-\d+)</code>", text), following[0] if following else ""

            found, following = await listed("/dead-letters")
            assert found == order[:2]
            assert (await listed(f"/dead-letters?{following}"))[0] == order[2:]
            assert (await listed("/dead-letters?user=1"))[0] == [order[1], order[3]]
            assert (await listed("/dead-letters?reason=malformed"))[0] == order[:1]
            assert (await listed("/dead-letters?op=upsert&user=2"))[0] == [order[2]]
            assert (await listed("/dead-letters?op=nonsense"))[0] == []
            assert "No dead letter matches" in await browser.text("/dead-letters?user=4711")
            assert (await browser.get("/dead-letters?after=nonsense&after=%ff&user=%00")).status == 200

    async def test_the_newest_of_many_come_first(self, console: Any, die: Die) -> None:
        async with console() as browser:
            receipts = await die(*(number % 7 for number in range(7, 307)))
            seen: list[str] = []
            path = "/dead-letters"
            while path:
                text = await browser.text(path)
                seen += re.findall(r"<code>(\d+/\d+-\d+)</code>", text)
                following = re.findall(r'href="\?([^"]*)">Older', text)
                path = f"/dead-letters?{following[0]}" if following else ""
        assert sorted(seen) == sorted(map(str, receipts))
        ids = [tuple(map(int, one.partition("/")[2].split("-"))) for one in seen]
        assert ids == sorted(ids, reverse=True)

    async def test_payloads_are_masked_unless_they_are_shown(self, console: Any, die: Die) -> None:
        async with console() as browser:
            (receipt,) = await die(7)
            path = f"/dead-letters/{receipt}"
            masked = await browser.text(path)
        assert "red wine" not in masked
        assert "text, 8 characters" in masked
        assert "mem_7_0" in masked
        async with console(console_payloads=True) as browser:
            assert "red wine" in await browser.text(path)

    async def test_hostile_text_is_escaped(self, console: Any, die: Die) -> None:
        async with console(console_payloads=True) as browser:
            (receipt,) = await die(7, ref=HOSTILE, value=HOSTILE)
            for path in ("/dead-letters", f"/dead-letters/{receipt}", f"/dead-letters?user={HOSTILE}"):
                answer = await browser.get(path)
                assert b"<script" not in answer.body
                assert b"&lt;script&gt;" in answer.body


class TestLogin:
    async def test_without_a_session_no_page_is_shown(self, console: Any) -> None:
        async with console(console_password=SecretStr(PASSWORD)) as browser:
            for path in PAGES:
                answer = await browser.get(path)
                assert (answer.status, answer.headers["location"]) == (303, "./login"), path
            answer = await browser.get("/dead-letters/0/1-0")
            assert (answer.status, answer.headers["location"]) == (303, "../../login")
            assert (await browser.get("/console.css")).status == 200
            assert (await browser.get("/livez")).status == 200
            assert b"Settings" not in (await browser.get("/nothing")).body

    async def test_the_cookie_is_safe_and_ends_with_the_log_out(self, console: Any, events: Events) -> None:
        async with console(console_password=SecretStr(PASSWORD)) as browser:
            answer = await browser.log_in()
            assert (answer.status, answer.headers["location"]) == (303, "./")
            cookie = answer.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=strict" in cookie
            assert "Max-Age=28800" in cookie
            assert "Secure" not in cookie
            assert "Log out" in await browser.text("/")
            form = await browser.form("/", "./logout")
            secure = await browser.get("/login", X_Forwarded_Proto="https")
            assert secure.status == 303
            answer = await browser.post("/logout", form)
            assert answer.status == 303
            assert (await browser.get("/")).status == 303
        assert [one["outcome"] for one in events.of("console_login")] == ["ok"]

    async def test_over_https_the_cookie_is_secure(self, console: Any) -> None:
        async with console(console_password=SecretStr(PASSWORD)) as browser:
            answer = await browser.get("/login", X_Forwarded_Proto="https")
            assert "Secure" in answer.headers["set-cookie"]

    async def test_wrong_passwords_are_refused_logged_and_limited(self, console: Any, events: Events) -> None:
        async with console(console_password=SecretStr(PASSWORD)) as browser:
            for _ in range(5):
                answer = await browser.log_in("wrong")
                assert answer.status == 403
                assert b"The password is wrong" in answer.body
            assert (await browser.log_in(PASSWORD)).status == 429
            assert (await browser.get("/")).status == 303
        assert [one["outcome"] for one in events.of("console_login")] == ["wrong_password"] * 5 + ["limited"]
        assert PASSWORD not in repr(events.seen)

    async def test_a_login_from_another_site_is_refused(self, console: Any) -> None:
        async with console(console_password=SecretStr(PASSWORD)) as browser:
            form = {**await browser.form("/login", "login"), "password": PASSWORD}
            assert (await browser.post("/login", form, Origin="http://evil")).status == 403
            assert (await browser.post("/login", {**form, "token": "0"})).status == 403
            assert (await browser.post("/login", form, Sec_Fetch_Site="cross-site")).status == 403
            assert (await browser.post("/login", {**form, "x": "x" * 20_000})).status == 413
            assert (await browser.post("/login", form)).status == 303


class TestActions:
    async def test_a_dead_letter_is_dropped(
        self, with_login: Any, die: Die, dead_letters: Dead, events: Events
    ) -> None:
        async with with_login() as browser:
            receipt, other = await die(1, 2)
            form = await browser.form(f"/dead-letters/{receipt}", f"{receipt.entry_id}/drop")
            answer = await browser.post(f"/dead-letters/{receipt}/drop", form, X_Forwarded_For="203.0.113.7")
            assert answer.status == 200
            assert b"<h1>Dropped</h1>" in answer.body
            assert [one.receipt for one in await dead_letters()] == [other]
            assert (await browser.post(f"/dead-letters/{receipt}/drop", form)).status == 404
        (line, again) = events.of("console_action")
        assert (line["action"], line["receipt"], line["done"]) == ("drop", str(receipt), 1)
        assert (line["forwarded_for"], again["done"]) == ("203.0.113.7", 0)
        assert line["session"]

    async def test_a_replay_is_refused_if_it_would_undo_newer_jobs(
        self, with_login: Any, die: Die, queue: MemoryQueue, dead_letters: Dead, events: Events
    ) -> None:
        async with with_login() as browser:
            (receipt,) = await die(1)
            await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_0", vector=axis(0)))
            form = await browser.form(f"/dead-letters/{receipt}", f"{receipt.entry_id}/replay")
            answer = await browser.post(f"/dead-letters/{receipt}/replay", form)
            assert answer.status == 409
            assert b"Newer jobs of the same points" in answer.body
            assert [one.receipt for one in await dead_letters()] == [receipt]
            forced = dict(re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', answer.body.decode()))
            assert forced["force"] == "yes"
            answer = await browser.post(f"/dead-letters/{receipt}/replay", {**form, "force": "yes"})
            assert answer.status == 200
        assert [(one["done"], one["left"], one["force"]) for one in events.of("console_action")] == [
            (0, 1, False),
            (1, 0, True),
        ]

    async def test_all_that_match_are_dropped_but_none_that_arrive_later(
        self, with_login: Any, die: Die, dead_letters: Dead, events: Events
    ) -> None:
        async with with_login() as browser:
            await die(1, 1, 2)
            path = "/dead-letters/confirm?action=drop&user=1"
            text = await browser.text(path)
            assert "Drop 2 dead letters?" in text
            form = await browser.form(path, "act")
            (late,) = await die(1)
            answer = await browser.post("/dead-letters/act", form)
            assert b"<h1>2 dropped</h1>" in answer.body
            left = {(one.user_id, one.receipt) for one in await dead_letters()}
            assert ("1", late) in left
            assert len(left) == 2
        (line,) = events.of("console_action")
        assert (line["action"], line["filters"], line["done"]) == ("drop", "user=1", 2)

    async def test_replays_of_many_go_on_where_they_had_to_stop(
        self, with_login: Any, die: Die, queue: MemoryQueue, dead_letters: Dead, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with with_login() as browser:
            await die(1, 1, 1, bodies=(b"\xc1",))
            await queue.wait_applied(await queue.upsert(user_id=1, point_id="mem_1_0", vector=axis(0)))
            form = await browser.form("/dead-letters/confirm?action=replay", "act")
            monkeypatch.setattr(actions, "_SLICE_S", -1.0)
            assert b"4 are still to do" in (await browser.post("/dead-letters/act", form)).body
            monkeypatch.setattr(actions, "_SLICE_S", 4.0)
            answer = await browser.post("/dead-letters/act", form)
            text = unescape(answer.body.decode())
            assert "<h1>2 replayed</h1>" in text
            assert "2 left" in text
            assert "it is unknown which newer jobs" in text
            assert "still to do" not in text

    async def test_too_many_are_for_the_command_line(
        self, with_login: Any, die: Die, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(actions, "MOST_AT_ONCE", 2)
        async with with_login() as browser:
            await die(1, 2, 3)
            text = await browser.text("/dead-letters/confirm?action=drop")
            assert "memory-worker dead drop" in text
            assert 'action="act"' not in text

    async def test_nothing_is_done_without_session_token_and_origin(
        self, with_login: Any, die: Die, dead_letters: Dead
    ) -> None:
        async with with_login() as browser:
            (receipt,) = await die(1)
            path = f"/dead-letters/{receipt}/drop"
            form = await browser.form(f"/dead-letters/{receipt}", f"{receipt.entry_id}/drop")
            many = {**form, "action": "drop", "died_by_ms": "9999999999999"}
            stranger = Browser(browser.port)
            await stranger.get("/login")
            for status, answer in (
                (403, await browser.post(path, {})),
                (403, await browser.post(path, {"token": "0" * 64})),
                (403, await browser.post(path, form, Origin="http://evil")),
                (403, await browser.post(path, form, Origin="null")),
                (403, await browser.post(path, form, Sec_Fetch_Site="cross-site")),
                (403, await browser.post(path, form, Cookie="")),
                (403, await stranger.post(path, form)),
                (403, await browser.post("/dead-letters/act", {**many, "token": ""})),
                (400, await browser.post("/dead-letters/act", {**many, "died_by_ms": "x"})),
                (404, await browser.post("/dead-letters/act", {**many, "action": "purge"})),
                (405, await browser.get(path)),
            ):
                assert answer.status == status
            assert [one.receipt for one in await dead_letters()] == [receipt]

    async def test_without_actions_there_are_no_forms(self, with_login: Any, die: Die, dead_letters: Dead) -> None:
        async with with_login(console_actions=False) as browser:
            (receipt,) = await die(1)
            assert "Drop" not in await browser.text(f"/dead-letters/{receipt}")
            form = await browser.form("/", "./logout")
            assert (await browser.post(f"/dead-letters/{receipt}/drop", form)).status == 404
            assert len(await dead_letters()) == 1


async def test_actions_without_a_password_keep_a_worker_from_starting(settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="CONSOLE_ACTIONS needs CONSOLE_PASSWORD_FILE"):
        settings(console_actions=True)


async def test_a_name_with_a_domain_needs_a_password(console: Callable[..., Any]) -> None:
    """Any web site may have a name that leads here."""
    async with console() as browser:
        for page in PAGES:
            assert (await browser.get(page, Host="evil.example")).status == 421, page
        assert (await browser.get("/livez", Host="evil.example")).status == 200
    async with console(console_password=SecretStr(PASSWORD)) as browser:
        assert (await browser.get("/login", Host="console.example")).status == 200
