"""What a person sees: all the figures, and nothing that breaks the terminal."""

import io

import msgspec
from rich.console import Console

from nextwatch.demo.checklist import STEPS, Checklist
from nextwatch.demo.display import display
from nextwatch.demo.figures.minutes import Minute
from nextwatch.demo.figures.report import Report, as_json
from nextwatch.demo.figures.tally import Tally
from nextwatch.demo.panel import line, panel, sparkline
from nextwatch.demo.summary import summary

FIGURES = Report(
    broker="Apache Kafka 4.1.1",
    startup_s=9.5,
    rate=50.0,
    seconds=61.0,
    catalogue_videos=2_000,
    events_in=3_003,
    answered=3_003,
    recommendations_out=3_001,
    event_to_recommendation_ms={"p50": 18, "p95": 40, "p99": 90},
    last_10_s={
        "event_to_recommendation_ms": {"p50": 700, "p95": 800, "p99": 1_900},
        "upload_to_retrievable_ms": {"p50": 41, "p99": 55},
    },
    minutes=[Minute(minute=1, events=3_003, answered=3_003, p50=18, p95=40, p99=90)],
    uploads=60,
    upload_to_retrievable_ms={"p50": 36, "p99": None},
    lost_uploads=0,
    unfound_uploads=0,
    unmeasured_uploads=0,
    generation=2,
    generations_served=2,
    generations={"1": 1_000, "2": 2_000},
    progressive_recall_at_20={"model": 0.4, "popularity": 0.1, "retrieval": None},
    ranker={"gauc": 0.61, "predicted_to_watched": 1.02, "log_loss": 0.3},
    ranker_examples=4_000,
    progressive_examples=900,
    degraded={},
    dead_letters=3,
    lost=0,
    unanswered=0,
    restarts={"index_sync": 1},
    memory_mb={"broker": {"1": 390.0, "end": 400.0}, "feed": {"end": 70.0}},
    cpu_percent={"broker": {"first_minute": 30.0, "run": 18.0, "last_10_s": 15.0}},
    interrupted=False,
    error=None,
)
NOW_MS = 2_500


def drawn(renderable) -> str:
    """Return what a terminal of 120 columns would show."""
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()


def followed() -> Tally:
    """Return a tally with a user whose titles try to be markup."""
    tally = Tally()
    tally.announcement(b'{"bundle_id": "b2", "generation": 2, "state": "in_service"}')
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
    shown = drawn(panel(FIGURES, followed(), now_ms=NOW_MS))

    for text in ("p50 18 p95 40 p99 90 ms", "3 is indexed", "model 0.400", "60 uploads"):
        assert text in shown
    assert "dead letters" in shown


def test_panel_shows_what_a_user_watched_and_gets():
    """Titles are text: brackets in them are drawn, not obeyed."""
    shown = drawn(panel(FIGURES, followed(), now_ms=NOW_MS))

    assert "watched 90 % of [red]a[/] ][" in shown
    assert "7 s, ann" in shown


def test_panel_can_be_drawn_before_anything_happened():
    """The first picture comes before the first event."""
    assert "events" in drawn(panel(FIGURES, Tally(), now_ms=NOW_MS))


def test_line_fits_where_there_is_no_terminal():
    """One line tells the same, and breaks nowhere."""
    told = line(FIGURES, followed(), now_ms=NOW_MS)

    assert "\n" not in told
    assert "generation 2" in told
    assert "p99 - ms" in told


def test_sparkline_is_highest_at_the_highest():
    """Bars are relative to the highest; where nothing was measured it is blank."""
    assert sparkline([0, 1, 2, None, 4]) == "▁▃▅ █"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([None]) == " "
    assert sparkline([]) == ""


def test_the_json_has_the_documented_fields():
    """Readers of the last line find each figure under its name."""
    decoded = msgspec.json.decode(as_json(FIGURES))

    assert "\n" not in as_json(FIGURES)
    assert decoded["event_to_recommendation_ms"] == {"p50": 18, "p95": 40, "p99": 90}
    assert decoded["progressive_recall_at_20"]["model"] == 0.4
    for name in ("startup_s", "events_in", "recommendations_out", "uploads", "dead_letters"):
        assert name in decoded
    for name in ("upload_to_retrievable_ms", "generations_served", "lost", "catalogue_videos"):
        assert name in decoded
    assert decoded["minutes"][0] == {
        "minute": 1,
        "events": 3_003,
        "answered": 3_003,
        "p50": 18,
        "p95": 40,
        "p99": 90,
    }
    assert decoded["memory_mb"]["broker"] == {"1": 390.0, "end": 400.0}
    assert (decoded["interrupted"], decoded["error"]) == (False, None)


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


def test_a_step_that_is_left_out_is_not_shown():
    """Without a console nobody waits for its address."""
    checklist = Checklist(lambda: 1.0, left_out=frozenset({"console"}))

    assert "console" not in drawn(checklist.table())


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


def test_the_last_seconds_are_shown_beside_the_whole_run():
    """What is happening now is not hidden behind a good beginning."""
    shown = drawn(panel(FIGURES, followed(), now_ms=NOW_MS))
    told = line(FIGURES, followed(), now_ms=NOW_MS)

    for text in (shown, told):
        assert "p50 700 p95 800 p99 1,900 ms" in text
        assert "p50 18 p95 40 p99 90 ms" in text


def test_more_events_than_recommendations_are_explained_where_they_stand():
    """One recommendation answers all events that a user has in one micro-batch."""
    assert "3,003 by 3,001 recommendations" in drawn(panel(FIGURES, Tally(), now_ms=NOW_MS))
    assert "3,003 events, 3,003 answered by 3,001 recommendations" in line(
        FIGURES, Tally(), now_ms=NOW_MS
    )


def test_p99_over_the_last_minute_is_drawn():
    """Bars of the latency, which changes, and not of the rate, which does not."""
    tally = Tally()
    for second in range(60):
        tally.ledger.latencies.add(10 if second < 58 else 80, ended_ms=second * 1_000)

    assert "▁" * 10 + "█" in drawn(panel(FIGURES, tally, now_ms=60_000)).replace("▂", "▁")
    assert "up to 80 ms" in drawn(panel(FIGURES, tally, now_ms=60_000))


def test_waiting_events_are_shown_while_they_wait():
    """A worker that stands still makes no latencies at all; the wait shows that it does."""
    tally = Tally()
    tally.ledger.sent("a", ("watch-events", 0, 0), 1_000)
    assert "unanswered" not in line(FIGURES, tally, now_ms=1_500)
    assert "waiting" not in drawn(panel(FIGURES, tally, now_ms=1_500))

    assert "1 unanswered for up to 8 s" in line(FIGURES, tally, now_ms=9_000)
    assert "1 unanswered for up to 8 s" in drawn(panel(FIGURES, tally, now_ms=9_000))


def test_restarted_processes_are_named():
    """A number alone does not tell which one to look at."""
    assert "index_sync 1" in drawn(panel(FIGURES, Tally(), now_ms=NOW_MS))
    assert "restarted index_sync 1" in line(FIGURES, Tally(), now_ms=NOW_MS)


def test_summary_tells_the_whole_run():
    """What is left on the screen after Ctrl-C."""
    told = "\n".join(summary(FIGURES))

    assert "3,003 events, 3,003 answered by 3,001 recommendations, lost 0" in told
    for text in ("p50 18 p95 40 p99 90 ms", "2 in service", "index_sync 1", "broker 400"):
        assert text in told


def test_summary_says_how_the_run_ended():
    """By itself, by hand, or by a failure."""
    by_hand = msgspec.structs.replace(FIGURES, interrupted=True)
    failed = msgspec.structs.replace(FIGURES, error="feed ended (signal 9)")

    assert [summary(figures)[0].split()[0] for figures in (FIGURES, by_hand, failed)] == [
        "ended",
        "stopped",
        "failed",
    ]


def test_summary_calls_lost_only_what_was_waited_for():
    """Who stops a run in its boot has lost nothing."""
    stopped = msgspec.structs.replace(FIGURES, interrupted=True, unanswered=4, unfound_uploads=1)
    told = "\n".join(summary(stopped))

    assert "4 unanswered at the stop" in told
    assert "1 not found yet at the stop" in told
    assert "lost" not in told


def test_summary_of_a_run_that_never_began_has_no_costs():
    """Ctrl-C in the boot: nothing was measured."""
    figures = msgspec.structs.replace(FIGURES, memory_mb={}, cpu_percent={})

    assert "memory" not in "\n".join(summary(figures))


def test_the_ranker_is_told_once_it_has_learned():
    told = "\n".join(summary(FIGURES))

    assert "order within users (GAUC) 0.610, expected to watched time 1.020" in told
    assert "ranker" not in "\n".join(
        summary(msgspec.structs.replace(FIGURES, ranker_examples=None))
    )
