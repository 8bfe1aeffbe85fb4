"""The console in real Chromium: it fits narrow and wide windows, has two themes, and loads nothing from elsewhere."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from memory_worker.contract import Upsert, encode_job, partition_of
from memory_worker.wire.keys import Keys
from memory_worker.wire.push import push
from tests.browser import NAME, Browser, browser
from tests.console_states import served, states
from tests.integration.conftest import SIGNAL_TIMEOUT_S, Dead, Events, MakeSettings, running
from tests.integration.jobs import PARTITIONS
from tests.tools import tool

PASSWORD = "correct horse battery"
PATHS = ("/", "/partitions?show=all", "/collections", "/dead-letters", "/check", "/settings", "/nothing")
WIDTHS = (390, 1440)
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
OVERFLOW = """[document.documentElement.scrollWidth - innerWidth,
  ...[...document.querySelectorAll('main *')].filter(one => !one.closest('.scroll, svg'))
    .filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 200))]"""
UNNAMED = """[...document.querySelectorAll(
  'input:not([type=hidden]), select, button, a, meter, [role=region], svg[role=img]')]
  .filter(one => !(one.labels && one.labels.length) && !one.textContent.trim() && !one.getAttribute('aria-label'))
  .map(one => one.outerHTML)"""


@pytest.fixture(scope="module")
def page() -> Iterator[Browser]:
    with browser(tool(NAME)) as opened:
        yield opened


@pytest.mark.parametrize("state", states())
def test_pages_fit_are_labelled_and_load_nothing_from_elsewhere(page: Browser, state: str) -> None:
    with served(states()[state]) as port:
        page.requests.clear()
        page.problems.clear()
        for path in PATHS:
            backgrounds = set()
            for width, theme in ((390, "dark"), (1440, "light")):
                page.look(width=width, theme=theme)
                page.open(f"http://127.0.0.1:{port}{path}")
                backgrounds.add(page.value(BACKGROUND))
                assert page.value(OVERFLOW) == [0], (path, width)
                assert page.value(UNNAMED) == [], path
                assert page.value("document.scripts.length") == 0
            assert len(backgrounds) == 2, path
        assert page.foreign_requests(port) == []
        assert [one for one in page.problems if "404" not in one] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_on_its_background(page: Browser, theme: str) -> None:
    with served(states()["large"]) as port:
        page.look(width=1440, theme=theme)
        for path in ("/", "/check", "/settings"):
            page.open(f"http://127.0.0.1:{port}{path}")
            assert page.value(f"({LOW_CONTRAST})()") == [], path


LOW_CONTRAST = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = color => { const [r, g, b] = parse(color).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = one => { for (; one; one = one.parentElement) { const c = getComputedStyle(one).backgroundColor;
    if ((parse(c)[3] ?? 1) > 0) return c; } return 'rgb(255, 255, 255)'; };
  const texts = [...document.querySelectorAll('body *')].filter(one => !one.closest('svg, .skip'))
    .filter(one => [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  return [...new Set(texts.map(one => [one, light(getComputedStyle(one).color), light(behind(one))])
    .map(([one, a, b]) => [one, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)])
    .filter(([one, ratio]) => ratio < 4.5)
    .map(([one, ratio]) => `${one.tagName}.${one.className} ${ratio.toFixed(2)}`))];
}"""


async def test_an_operator_logs_in_and_drops_a_dead_letter(
    page: Browser, settings: MakeSettings, events: Events, redis: Redis, keys: Keys, dead_letters: Dead
) -> None:
    chosen: dict[str, Any] = {"console_password": SecretStr(PASSWORD), "console_actions": True}
    job = Upsert(user_id=7, point_id="mem_7_1", vector=b"\0" * 4)
    async with running(settings(**chosen)):
        (receipt,) = await push(redis, keys, PARTITIONS, [(partition_of(7, PARTITIONS), encode_job(job))])
        async with asyncio.timeout(SIGNAL_TIMEOUT_S):
            while not await dead_letters():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        port = events.of("http")[-1]["port"]
        page.problems.clear()
        await asyncio.to_thread(act, page, port)
        assert await dead_letters() == []
        assert page.problems == []
    assert [one["receipt"] for one in events.of("console_action")] == [str(receipt)]


def act(page: Browser, port: int) -> None:
    """Do what an operator does with a keyboard and a mouse."""
    page.look(width=390, theme="light")
    page.open(f"http://127.0.0.1:{port}/dead-letters")
    assert page.value("document.activeElement.type") == "password"  # the login form
    page.value(f"document.activeElement.value = {json.dumps(PASSWORD)}")
    page.send("document.querySelector('.login button').click()")
    assert page.value("document.querySelector('h1').textContent") == "Overview"
    page.open(f"http://127.0.0.1:{port}/dead-letters")
    page.send("document.querySelector('.letters a').click()")
    page.value("document.querySelector('summary').click()")
    page.send("document.querySelector('details button').click()")
    assert page.value("document.querySelector('h1').textContent") == "Dropped"
