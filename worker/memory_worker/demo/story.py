"""The story of the demo: what happens, in this order, and how it ends."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from rich.console import Console

from memory_worker.contract.errors import MemoryWorkerError
from memory_worker.demo.answers import Answer, ask
from memory_worker.demo.app import App
from memory_worker.demo.dataset import Dataset, load
from memory_worker.demo.processes import Processes
from memory_worker.demo.requests import LEAVER, Requests, requests_for
from memory_worker.demo.screen import Screen
from memory_worker.demo.verdict import Wanted, compare, read_all, wanted_after
from memory_worker.settings import Settings

_PATIENCE_S, _POLL_S = 60.0, 0.005
_KILLED_AT = 0.9
"""The worker is killed once less than this part of what waited for Qdrant still waits."""
_TITLE = "Your app writes to Redis. A worker brings the writes to Qdrant."
_ABOUT = (
    "In this demo Qdrant and the worker are killed while the app writes. At the end every point in Qdrant is compared "
    "with what the app asked for."
)
_NEXT_STEPS = {
    "memory-worker run": "starts a worker, with a Redis and a Qdrant of its own",
    "docs/quickstart.md": "leads to your own first program",
}
_SHOWN = ("meaning", "german", "document", "delete")
_SINGLE_WRITES, _SEARCH_ROUNDS = 40, 4


def tell(settings: Settings, console: Console, *, all_answers: bool) -> bool:
    """Tell the story. Return whether every point and every answer is right.

    Raises `MemoryWorkerError` if a process ends unexpectedly, or if requests wait for too long.
    """
    data = load()
    requests = requests_for(data)
    with Screen(console, len(requests.in_order())) as screen:
        screen.introduce(_TITLE, _ABOUT)
        screen.say("Redis, Qdrant and a worker are started in a temporary directory.")
        with Processes(settings) as processes:
            return _Story(data, requests, screen, processes).told(all_answers=all_answers)


class _Story:
    def __init__(self, data: Dataset, requests: Requests, screen: Screen, processes: Processes) -> None:
        self._data = data
        self._requests = requests
        self._screen = screen
        self._processes = processes
        self._app = App(processes.queue, screen.progress)
        self._times_ms: dict[str, list[float]] = {}

    def told(self, *, all_answers: bool) -> bool:
        """Let everything happen. Return whether all is right."""
        self._write()
        self._write_without_qdrant()
        self._kill_the_worker()
        self._catch_up()
        wanted = wanted_after(self._requests.in_order())
        self._write_one_by_one(wanted)
        answered = self._ask(wanted, all_answers=all_answers)
        verdict = compare(wanted, read_all(self._processes.qdrant.url))
        self._screen.head("Verdict", f"all of Qdrant, compared with the {self._app.pushed} requests of the app")
        self._screen.verdict(verdict)
        self._screen.head("Next", "")
        self._screen.next_steps(_NEXT_STEPS)
        return answered and not verdict.wrong

    def _write(self) -> None:
        users = len({item.user_id for item in self._data.memories}) + 1
        self._screen.say(f"The app begins to write memories and documents of {users} users.")
        self._times_ms["The app waits for a write"] = self._app.push(self._requests.all_is_well)

    def _write_without_qdrant(self) -> None:
        requests, screen = self._requests, self._screen
        self._processes.qdrant.kill()
        screen.say(
            "[bold red]Qdrant is killed[/] (kill -9) while the app writes. The app goes on.", state="Qdrant is down"
        )
        times_ms = self._app.push(requests.without_qdrant)
        self._times_ms["The app waits while Qdrant is down"] = times_ms
        screen.say(
            f"The app has changed {requests.changed} memories and deleted {requests.deleted}. "
            f"User {LEAVER} leaves, so all memories of this user must go."
        )
        screen.say(
            f"{self._app.waiting()} requests wait in Redis. A write still takes the app "
            f"{statistics.median(times_ms):.1f} ms."
        )

    def _kill_the_worker(self) -> None:
        processes, screen = self._processes, self._screen
        waiting = self._app.waiting()
        screen.say("Qdrant is started again, with the data that it had.", state="Qdrant is starting")
        processes.qdrant.start()
        screen.say("[bold green]Qdrant is back.[/] The worker begins to catch up.", state="")
        self._wait_until(lambda left: left < waiting * _KILLED_AT)
        processes.worker.kill()
        screen.say("[bold red]The worker is killed[/] (kill -9) in the middle of this.", state="no worker")
        processes.start_worker()
        screen.say(f"{self._app.waiting()} requests still wait. A new worker is started. The app writes on.")
        self._app.push(self._requests.without_worker)
        screen.say(f"The app has deleted {self._requests.rewritten} memories, and written them again.")

    def _catch_up(self) -> None:
        settings = self._processes.settings
        self._processes.worker.wait_until_ready()
        self._screen.say(
            "The new worker is ready and goes on. For the old one's part it waits up to "
            f"{settings.lease_ttl_s:g} s, because the old one might still be alive.",
            state="the worker waits",
        )
        self._wait_until(lambda left: left == 0)
        self._screen.say(
            f"[bold green]All {self._app.pushed} requests are applied[/], in the order of the app.", state=""
        )

    def _wait_until(self, condition: Callable[[int], bool]) -> None:
        """Wait until ``condition`` holds for the number of waiting requests."""
        give_up = time.monotonic() + _PATIENCE_S
        while not condition(waiting := self._app.waiting()):
            self._processes.worker.check()
            if time.monotonic() > give_up:
                raise MemoryWorkerError(f"{waiting} requests have waited for {_PATIENCE_S:g} s")
            time.sleep(_POLL_S)

    def _write_one_by_one(self, wanted: Wanted) -> None:
        """Measure how long it takes until a write can be found."""
        times_ms = self._times_ms["Until a search finds a write"] = []
        for write in [*wanted.there.values()][:_SINGLE_WRITES]:
            started = time.perf_counter()
            (receipt,) = self._processes.queue.push_many([write])
            self._processes.queue.wait_applied(receipt)
            times_ms.append((time.perf_counter() - started) * 1000)

    def _ask(self, wanted: Wanted, *, all_answers: bool) -> bool:
        rounds = [ask(self._processes.queue, self._data.questions, wanted.gone) for _ in range(_SEARCH_ROUNDS)]
        self._times_ms["A search takes"] = [answer.took_ms for answers in rounds for answer in answers]
        answers = rounds[-1]
        right = sum(answer.right for answer in answers)
        shown = answers if all_answers else [*_examples(answers), *(answer for answer in answers if not answer.right)]
        found = f"{right} of {len(answers)} questions have the right answer"
        self._screen.head("Searches", found if right == len(answers) else f"[bold red]{found}[/]")
        self._screen.answers(shown)
        self._screen.head("Times", "measured now, with all processes on this machine")
        self._screen.times(self._times_ms)
        return right == len(answers)


def _examples(answers: list[Answer]) -> list[Answer]:
    """Return the first right answer that shows each thing, and the same question of another user."""
    right = [answer for answer in answers if answer.right]
    first = {answer.question.shows: answer for answer in reversed(right)}
    same = [answer for answer in right if answer.question.text == right[0].question.text] if right else []
    return [*same, *(first[shows] for shows in _SHOWN if shows in first)]
