"""What a person sees: all the figures, and nothing that breaks the terminal."""

import io

import msgspec
from rich.console import Console

from nextwatch.demo.checklist import STEPS, Checklist
from nextwatch.demo.display import display
from nextwatch.demo.panel import line, panel, sparkline
from nextwatch.demo.report import Report, as_json
from nextwatch.demo.tally import Tally

FIGURES = Report(
    broker="Apache Kafka 4.1.1",
    startup_s=9.5,
    rate=50.0,
    seconds=61.0,
    catalogue_videos=2_000,
    events_in=3_000,
    recommendations_out=3_000,
    event_to_recommendation_ms={"p50": 18, "p95": 40, "p99": 90},
    uploads=60,
    upload_to_retrievable_ms={"p50": 36, "p99": None},
    lost_uploads=0,
    unmeasured_uploads=0,
    generations_served=2,
    generations={"1": 1_000, "2": 2_000},
    progressive_recall_at_20={"model": 0.4, "popularity": 0.1, "retrieval": None},
    progressive_examples=900.0,
    degraded={},
    dead_letters=3,
    lost=0,
)


def drawn(renderable) -> str:
    """Return what a terminal of 120 columns would show."""
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()


def followed() -> Tally:
    """Return a tally with a user whose titles try to be markup."""
    tally = Tally(generation=2)
    tally.upload("v1", b'{"title": "[red]a[/] ]["}', 1)
    watch = {"event_id": "e", "user_id": "u1", "video_id": "v1", "watch_ms": 9, "duration_ms": 10}
    tally.event(("watch-events", 0, 0), msgspec.json.encode(watch), 1_000)
    items = [{"video_id": "v1", "expected_watch_ms": 7_000, "score": 1, "source": "ann"}]
    answer = {"user_id": "u1", "caused_by": ["e"], "generation": 2, "bundle_id": "b"}
    tally.recommendation(msgspec.json.encode(answer | {"items": items}), 1_020)
    tally.announcement(b'{"bundle_id": "b3", "generation": 3, "state": "indexed"}')
    return tally


def test_panel_shows_every_figure():
    """Rates, latencies, the generation, recalls, uploads and dead letters are all there."""
    shown = drawn(panel(FIGURES, followed(), num_restarts=1))

    for text in ("p50 18 p95 40 p99 90 ms", "3 is indexed", "model 0.400", "60 uploads"):
        assert text in shown
    assert "dead letters" in shown


def test_panel_shows_what_a_user_watched_and_gets():
    """Titles are text: brackets in them are drawn, not obeyed."""
    shown = drawn(panel(FIGURES, followed()))

    assert "watched 90 % of [red]a[/] ][" in shown
    assert "7 s, ann" in shown


def test_panel_can_be_drawn_before_anything_happened():
    """The first picture comes before the first event."""
    assert "events" in drawn(panel(FIGURES, Tally()))


def test_line_fits_where_there_is_no_terminal():
    """One line tells the same, and breaks nowhere."""
    told = line(FIGURES, followed())

    assert "\n" not in told
    assert "generation 2" in told
    assert "p99 - ms" in told


def test_sparkline_is_highest_at_the_highest():
    """Bars are relative to the highest; nothing at all is blank."""
    assert sparkline([0, 1, 2, 4]) == " ▂▄█"
    assert sparkline([0, 0]) == "  "
    assert sparkline([]) == ""


def test_json_has_what_was_promised():
    """Readers of the last line find each figure under its name."""
    decoded = msgspec.json.decode(as_json(FIGURES))

    assert "\n" not in as_json(FIGURES)
    assert decoded["event_to_recommendation_ms"] == {"p50": 18, "p95": 40, "p99": 90}
    assert decoded["progressive_recall_at_20"]["model"] == 0.4
    for name in ("startup_s", "events_in", "recommendations_out", "uploads", "dead_letters"):
        assert name in decoded
    for name in ("upload_to_retrievable_ms", "generations_served", "lost", "catalogue_videos"):
        assert name in decoded


def test_checklist_ticks_each_step_once():
    """The time of a step is when it was done first."""
    ages = iter([1.5, 2.5])
    said = []
    checklist = Checklist(lambda: next(ages), said.append)
    checklist.done("broker")
    checklist.done("broker")

    assert checklist.done_s == {"broker": 1.5}
    assert said == ["  1.50 s  broker"]


def test_checklist_shows_what_is_still_to_come():
    """All steps are there from the start."""
    checklist = Checklist(lambda: 1.0, notes={"catalogue": "2000 videos"})
    checklist.done("catalogue")
    shown = drawn(checklist.table())

    assert all(text in shown for text in STEPS.values())
    assert "catalogue (2000 videos)" in shown


def test_no_terminal_gets_lines_and_no_pictures():
    """Where output goes to a file, there are no control characters in it."""
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    with display(console, is_headless=False) as screen:
        screen.say("hello [bold]there")
        screen.show(lambda: "picture", lambda: "line")

    assert console.file.getvalue() == "hello [bold]there\nline\n"


def test_terminal_gets_the_last_picture():
    """What is drawn last stays on the screen."""
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with display(console, is_headless=False) as screen:
        screen.say("not shown")
        screen.show(lambda: "first")
        screen.show(lambda: "too soon")
        screen.keep("kept")
        screen.show(lambda: "last", is_last=True)

    shown = console.file.getvalue()
    assert shown.index("kept") < shown.index("last")
    assert "too soon" not in shown
    assert "not shown" not in shown


def test_a_long_run_is_told_why_it_slows_down():
    """The embedded broker is for a look, not for a day."""
    few = drawn(panel(FIGURES, Tally()))
    many = drawn(panel(msgspec.structs.replace(FIGURES, events_in=10_001), Tally()))

    assert "slows down" in many
    assert "slows down" not in few
