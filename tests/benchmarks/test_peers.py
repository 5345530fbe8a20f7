"""The comparison with other frameworks: what it checks, and how it tells."""

import re

import pytest

from benchmarks.peers import environment, oracle, report
from benchmarks.peers.changelogs import FAUST, NEXTWATCH, QUIX
from benchmarks.peers.contest import ContestRun, Standing
from benchmarks.peers.contestants import CONTESTANTS
from benchmarks.peers.job import folded
from benchmarks.windows.oracle import NUM_WATCHES
from contract.wire.topics import Layout
from models.history import codec as history_codec
from tests.support.builders import watch

DAY_MS = 86_400_000
REFUSED_BY_QUIX = {"confluent-kafka", "pydantic", "pydantic-settings", "pydantic_core"}
PIN = re.compile(r"^([\w.-]+)==(\S+)$", re.MULTILINE)


def wire(event):
    """Return *event* as the oracle reads it from the broker."""
    names = ("event_time_ms", "event_id", "video_id", "watch_ms", "duration_ms")
    return {name: getattr(event, name) for name in names}


@pytest.mark.parametrize("num_recent", [30, 60])
def test_the_oracle_agrees_with_the_windows_of_the_library(num_recent):
    """One watch too old and more or fewer than fit give the same window in both ways."""
    events = [watch(f"v{n}", at_ms=n or -31 * DAY_MS) for n in range(num_recent)]
    record = None
    for event in events:
        record = history_codec.encode(folded(record, event))

    expected = oracle.window([], [wire(event) for event in events])
    assert len(expected) == min(num_recent - 1, NUM_WATCHES)
    assert oracle.entries(record) == expected


def test_the_oracle_sees_a_dropped_event():
    """The window without one event is another one."""
    first, second = watch("v1", at_ms=0), watch("v2", at_ms=1)

    lossy = oracle.entries(history_codec.encode(folded(None, first)))

    assert lossy != oracle.window([], [wire(first), wire(second)])


@pytest.mark.parametrize(
    ("changelog", "topic", "key"),
    [
        (NEXTWATCH, "p.nextwatch-streams-windows", b"u1"),
        (FAUST, "peer-faust-windows-changelog", b"u1"),
        (QUIX, "changelog__peer-quix--p.watch-events--default", b'u1|"window"'),
    ],
)
def test_each_changelog_is_found_by_its_name_and_its_users_by_their_keys(changelog, topic, key):
    """Topic and key are as each framework writes them."""
    assert (changelog.topic_on(Layout(prefix="p.")), changelog.user_of(key)) == (topic, "u1")


def test_quix_runs_with_the_tested_versions_of_all_it_does_not_refuse():
    """The models compute with the same numpy and ONNX Runtime in both environments."""
    tested = dict(
        PIN.findall((environment.REQUIREMENTS.parents[2] / "constraints.txt").read_text())
    )
    apart = dict(PIN.findall(environment.REQUIREMENTS.read_text()))
    shared = (tested.keys() & apart.keys()) - REFUSED_BY_QUIX

    assert {"numpy", "onnxruntime", "rocksdict"} <= shared
    assert {name: apart[name] for name in shared} == {name: tested[name] for name in shared}


def run(answers_eps, *, p50=5.0, wrong=0):
    """A run of this rate."""
    latency_ms = {"p50": p50, "p95": 2 * p50, "p99": 3 * p50}
    return ContestRun(answers_eps, latency_ms, 1.5, 100.0, 0, 0, wrong)


def standings():
    """Quix, the slower, and Nextwatch, after two repeats."""
    by_name = {contestant.name: contestant for contestant in CONTESTANTS}
    quix = Standing(by_name["quix"], [run(90), run(110)], [run(70, p50=9.0)], [])
    ours = Standing(by_name["nextwatch"], [run(400, wrong=2)], [run(70)], [run(280)], 280.0)
    return [quix, ours]


def test_the_table_has_the_fastest_first_and_tells_what_went_wrong():
    """One line for each system, and one more for ours at its own rate."""
    lines = report.rows(standings(), 70.0)

    assert [(line[0].split()[0], line[1], line[-1]) for line in lines] == [
        ("Nextwatch", "400", "2"),
        ("Nextwatch,", "", "0"),
        ("Quix", "100", "0"),
    ]
    assert {len(line) for line in lines} == {len(report.COLUMNS)}


def test_a_report_replaces_its_section_and_leaves_the_others(tmp_path):
    """Written twice, it stands there once, with what was before and after."""
    page = tmp_path / "results" / "serving.md"
    page.parent.mkdir()
    page.write_text(f"# Serving\n\nbefore\n\n{report.HEADING}\n\nold\n\n## After\n\nkept\n")
    facts = dict.fromkeys(("repeats", "workers", "cpus", "load_1m", "users", "videos", "events"), 1)
    section = report.markdown(report.rows(standings(), 70.0), facts)

    report.write_section(page, section)
    report.write_section(page, section)

    text = page.read_text()
    assert text.startswith("# Serving\n\nbefore\n\n## Beside its peers\n\n")
    assert text.endswith("|\n\n## After\n\nkept\n")
    assert (text.count(report.HEADING), text.count("old")) == (1, 0)


def test_a_report_goes_to_the_end_of_a_page_that_has_none(tmp_path):
    """A page is made where there is none."""
    page = tmp_path / "serving.md"

    report.write_section(page, f"{report.HEADING}\n\nnew\n")

    assert page.read_text().endswith("measured\n\n## Beside its peers\n\nnew\n")
