"""Do the twelve tasks of a newcomer in Chromium, on an embedded stack; print the seconds of each.

Nothing but the pages is used, save one record on the wrong partition: the dead letter to replay.
Exits with 1 when a task fails, or all of them take longer than five minutes.

Example: python -m benchmarks.console.newcomer
"""

import re
import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

from benchmarks.console.rig import ConsoleRig, running_rig
from benchmarks.json_report import exit_with, log_errors_only
from benchmarks.stack.browser import browser, missing
from benchmarks.stack.player import player_of
from contract.process.clock import system_clock
from contract.wire.keys import partition_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

RATE = 20.0
MOST_S = 300.0
_WITHIN_MS = 120_000
_VIDEOS = "() => [...document.querySelectorAll('.card')].map((card) => card.dataset.video)"


class FirstVisit:
    """Somebody who has never seen the console; *page* is open at the viewer."""

    def __init__(self, rig: ConsoleRig, page: "Page") -> None:
        self._rig = rig
        self._page = page
        self._title = f"zeppelin {uuid4().hex[:6]}"
        self._before: list[str] = []

    @property
    def tasks(self) -> dict[str, Callable[[], None]]:
        """The tasks in their order."""
        return {
            "become a viewer": self.become_viewer,
            "watch": self.watch,
            "see the feed reorder": self.see_reorder,
            "ask why": self.ask_why,
            "search": self.search,
            "upload and be found": self.upload,
            "take down": self.take_down,
            "kill a worker and see recovery": self.kill_worker,
            "roll back a generation": self.roll_back,
            "replay a dead letter": self.replay,
            "erase a user": self.erase,
            "read the metrics": self.read_metrics,
        }

    def become_viewer(self) -> None:
        """Become a new user and get a list."""
        self._page.click("#new-user")
        self._page.wait_for_selector(".card")

    def watch(self) -> None:
        """Watch the first card; Kafka acknowledges it."""
        self._before = self._page.evaluate(_VIDEOS)
        self._page.locator(".card .main").first.click()
        self._page.wait_for_selector("#history li >> text=/^Watched/")

    def see_reorder(self) -> None:
        """See another order, without the watched video, and where the milliseconds went."""
        self._page.wait_for_selector("#viewer-status >> text=/^Feed updated/")
        now = self._page.evaluate(_VIDEOS)
        assert now != self._before
        assert self._before[0] not in now
        assert re.search(r"Click to feed\s+[0-9.]+ ms", self._page.inner_text("#times"))

    def ask_why(self) -> None:
        """Read why the first card is there."""
        self._page.get_by_role("button", name=re.compile(r"^Why\?")).first.click()
        self._page.wait_for_selector("#why-body >> text=Caused by")
        self._page.get_by_role("button", name="Close", exact=True).click()

    def search(self) -> None:
        """Search, and see a list that the search caused."""
        status = self._page.inner_text("#viewer-status")
        words = self._page.locator(".card h4").first.inner_text().split(". ")[1]
        self._page.fill("#search", words)
        self._page.click("#search-form button")
        self._page.wait_for_selector("#history li >> text=/^Searched/")
        self._page.wait_for_function(
            "(before) => document.getElementById('viewer-status').innerText !== before", arg=status
        )

    def upload(self) -> None:
        """Upload a video; it is retrievable, and found by a search."""
        self._go("Creator")
        self._page.fill("[name=title]", self._title)
        self._page.click("#upload-form button")
        row = self._page.locator("#uploads tr", has_text=self._title)
        row.locator("td").nth(0).filter(has_text=re.compile("[0-9] ms")).wait_for()
        row.get_by_role("button", name="Search for").click()
        self._page.locator(".card", has_text=self._title).first.wait_for()
        self._go("Creator")
        row.locator("td").nth(1).filter(has_text=re.compile("[0-9] ms")).wait_for()

    def take_down(self) -> None:
        """Take it down and see it gone from the index."""
        row = self._page.locator("#uploads tr", has_text=self._title)
        row.get_by_role("button", name="Take down").click()
        row.locator("td").nth(2).filter(has_text=re.compile("[0-9] ms")).wait_for()

    def kill_worker(self) -> None:
        """Kill streams; see it ready again, and recommending."""
        self._go("Operator")
        self._page.get_by_role("button", name="Kill streams").click()
        self._page.wait_for_selector("#faults li >> text=/a recommendation after/")

    def roll_back(self) -> None:
        """Go back one generation."""
        self._page.wait_for_selector("#models button >> text=/^Roll back to/")
        self._page.click("#rollback")
        self._page.wait_for_selector("#operator-status >> text=/is withdrawn/")
        self._page.locator("#models tr", has_text="withdrawn").first.wait_for()

    def replay(self) -> None:
        """Find a dead letter that would pass, and replay it."""
        someone = f"misplaced-{uuid4().hex[:6]}"
        with player_of(self._rig.stack) as player:
            partitions = self._rig.stack.kafka.user_partitions
            wrong = (partition_of(someone.encode(), partitions) + 1) % partitions
            watch = {
                "event_id": str(uuid4()),
                "user_id": someone,
                "video_id": "v1",
                "event_time_ms": system_clock(),
                "watch_ms": 1_000,
            }
            player.produce("watch-events", someone, watch, partition=wrong)
            player.flush()
        self._page.wait_for_selector(".tile >> text=/watch-events/")
        self._page.click("#letters-read")
        row = self._page.locator("#letters tr", has_text=someone)
        row.get_by_role("button", name="Replay").click()
        self._page.wait_for_selector("#operator-status >> text=/^Replayed 1/")

    def erase(self) -> None:
        """Erase the viewer of the first task."""
        self._page.fill("[name=user_id]", self._page.input_value("#user-id"))
        self._page.click("#erase-form button")
        told = self._page.locator("#erased p", has_not_text="Erasing")
        told.wait_for()
        assert self._page.locator("#erased p.good").count(), self._page.inner_text("#erased")

    def read_metrics(self) -> None:
        """Read latency and lag, and the metrics that streams serves."""
        told = self._page.inner_text("#metrics")
        assert re.search(r"Event → recommendation, whole run\s+p50 [0-9]", told)
        assert re.search(r"Lag of streams\s+[0-9]+ records", told)
        with self._page.expect_popup() as opened:
            self._page.get_by_role("link", name="metrics of streams").click()
        opened.value.wait_for_load_state()
        assert "nextwatch_" in opened.value.inner_text("body")
        opened.value.close()

    def _go(self, name: str) -> None:
        self._page.get_by_role("link", name=name, exact=True).click()


def main() -> None:
    """Do the tasks and print the seconds of each."""
    log_errors_only()
    if reason := missing():
        exit_with({"error": reason}, is_right=False)
    seconds: dict[str, float] = {}
    failure = ""
    with running_rig(rate=RATE) as rig, browser() as chromium:
        page = chromium.new_page()
        page.set_default_timeout(_WITHIN_MS)
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(rig.url)
        for name, task in FirstVisit(rig, page).tasks.items():
            began_s = monotonic()
            try:
                task()
            except Exception as error:  # noqa: BLE001 - a browser raises of many kinds
                failure = f"{name}: {type(error).__name__}: {error}"
                break
            seconds[name] = round(monotonic() - began_s, 1)
            print(f"{seconds[name]:6.1f} s  {name}", flush=True)
    total_s = round(sum(seconds.values()), 1)
    if failure:
        print(failure, file=sys.stderr)
    figures = {"tasks": seconds, "total_s": total_s, "failure": failure.split("\n")[0] or None}
    exit_with(figures, is_right=not failure and total_s <= MOST_S)


if __name__ == "__main__":
    main()
