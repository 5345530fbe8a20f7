"""`nextwatch models`: which announcements put another generation in service."""

import io
import re

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from contract.bundle_log import BundleLog
from contract.wire.events import BundleAnnouncement, BundleState
from contract.wire.topics import MODEL_BUNDLES
from nextwatch.commands import cli
from nextwatch.operate import models
from nextwatch.operate.terminal import one_line
from tests.support.builders import T0
from tests.support.bundles import catalogue, learner_of, write
from tests.trainer.doubles import received

OFFERED, INDEXED = BundleState.OFFERED, BundleState.INDEXED
IN_SERVICE, WITHDRAWN = BundleState.IN_SERVICE, BundleState.WITHDRAWN
WHY = {"now_ms": T0, "reason": "a test"}


def said(generation, state, **fields):
    return BundleAnnouncement(
        bundle_id=f"b{generation}",
        generation=generation,
        state=state,
        url="memory://b",
        manifest_sha256="0" * 64,
        announced_at_ms=T0,
        **fields,
    )


def log_of(*story):
    log = BundleLog()
    for generation, state in story:
        log.apply(said(generation, state))
    return log


LOG = log_of((1, IN_SERVICE), (2, IN_SERVICE), (3, IN_SERVICE), (4, OFFERED))


def planned(plan):
    return [(each.generation, each.state, each.revision) for each in plan]


def after(log, plan):
    """Return what serves when *plan* was announced, and index_sync has done its work."""
    for each in plan:
        log.apply(each)
        if each.state is OFFERED:
            log.apply(msgspec.structs.replace(each, state=IN_SERVICE))
    return log.in_service


def test_going_back_withdraws_the_one_in_service_and_what_is_on_its_way():
    plan = models.plan_rollback(LOG, None, **WHY)
    assert planned(plan) == [(3, WITHDRAWN, 0), (4, WITHDRAWN, 0)]
    assert {each.reason for each in plan} == {"a test"}


def test_going_back_further_withdraws_all_between():
    assert planned(models.plan_rollback(LOG, 1, **WHY))[0] == (2, WITHDRAWN, 0)


@pytest.mark.parametrize(
    ("log", "to", "told"),
    [
        (log_of(), None, "no generation is in service"),
        (log_of((1, IN_SERVICE)), None, "no indexed generation before 1"),
        (LOG, 9, "there is no generation 9; there are: 1, 2, 3, 4"),
        (LOG, 4, "generation 4 is offered; it is possible to go back from 3 to: 1, 2"),
        (LOG, 3, "generation 3 is in_service"),
    ],
)
def test_what_cannot_be_gone_back_to_is_told_with_what_can(log, to, told):
    with pytest.raises(ValueError, match=told):
        models.plan_rollback(log, to, **WHY)


def test_a_withdrawn_generation_is_offered_again_and_serves():
    log = log_of((1, IN_SERVICE), (2, IN_SERVICE), (2, WITHDRAWN))
    plan = models.plan_promotion(log, 2, **WHY)

    assert planned(plan) == [(2, OFFERED, 1)]
    assert after(log, plan) == 2


def test_an_earlier_generation_serves_once_the_later_ones_are_withdrawn():
    log = log_of((1, IN_SERVICE), (2, IN_SERVICE))
    assert after(log, models.plan_promotion(log, 1, **WHY)) == 1


@pytest.mark.parametrize(
    ("generation", "told"), [(4, "index_sync is to build it"), (9, "there is no generation 9")]
)
def test_what_cannot_be_promoted_is_told(generation, told):
    with pytest.raises(ValueError, match=told):
        models.plan_promotion(LOG, generation, **WHY)


def test_what_serves_already_is_told():
    with pytest.raises(ValueError, match="is the newest"):
        models.plan_promotion(log_of((1, IN_SERVICE)), 1, **WHY)


def test_records_that_cannot_be_read_hide_no_others():
    good = said(1, IN_SERVICE)
    records = [
        received(MODEL_BUNDLES, None, key=b"b0", value=b"{"),
        received(MODEL_BUNDLES, good, offset=1),
    ]
    assert models.log_of(records).in_service == 1


def drawn(table):
    """Return *table* as a terminal gets it."""
    console = Console(width=200, force_terminal=True, color_system=None, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize(
    "reason", ["see [/runbook]", "[red]a[/red]", "a\x1b]0;title\x07\x1b[2J\nb"]
)
def test_a_reason_is_shown_as_it_is_and_moves_no_terminal(reason):
    """Whoever may write to the topic chooses it; an operator's own ended the list once."""
    log = BundleLog()
    log.apply(said(1, WITHDRAWN, reason=reason, metrics={"[/loss]": 1.0}))

    assert one_line(reason) in drawn(models.table(log, now_ms=T0))
    [bundle] = models.bundles(log)
    assert "[/loss]" in drawn(models.difference_table(models.difference(bundle, bundle)))


def test_counts_are_shown_as_counts():
    log = BundleLog()
    log.apply(said(1, IN_SERVICE, metrics={"progressive_examples": 13_483.0, "ranker_gauc": 0.61}))
    told = drawn(models.table(log, now_ms=T0))
    assert "13,483" in told
    assert "0.61" in told


@pytest.fixture
def announced(monkeypatch):
    """What the commands announce; generation 1 was withdrawn, and 2 serves."""
    log = log_of((1, IN_SERVICE), (1, WITHDRAWN), (2, IN_SERVICE))
    told = []
    monkeypatch.setattr("nextwatch.commands.models._log", lambda: log)
    monkeypatch.setattr(
        "nextwatch.commands.models._announce", lambda plan, **_options: told.append(planned(plan))
    )
    return told


def promote(*options, root):
    env = {"NEXTWATCH_PROCESS_BUNDLE_URL": f"file://{root}", "COLUMNS": "200", "TERM": "dumb"}
    return CliRunner().invoke(cli.app, ["models", "promote", "1", *options], env=env)


def test_a_generation_whose_bundle_is_gone_is_not_promoted_by_mistake(announced, tmp_path):
    """The later ones would be withdrawn for it, and it could not serve."""
    answer = promote(root=tmp_path)
    assert answer.exit_code == 2
    told = re.sub(r"[\s│]+", " ", answer.output)
    assert "nothing was announced, since no worker could serve it" in told
    assert announced == []

    assert promote("--unread", root=tmp_path).exit_code == 0
    assert announced == [[(2, WITHDRAWN, 0), (1, OFFERED, 1)]]


def test_a_generation_whose_bundle_is_there_is_promoted(announced, tmp_path, monkeypatch):
    _, manifest = write(learner_of(catalogue()), tmp_path)
    log = BundleLog()
    log.apply(msgspec.structs.replace(said(1, WITHDRAWN), manifest_sha256=manifest.sha256))
    log.apply(said(2, IN_SERVICE))
    monkeypatch.setattr("nextwatch.commands.models._log", lambda: log)

    assert promote(root=tmp_path).exit_code == 0
    assert announced == [[(2, WITHDRAWN, 0), (1, OFFERED, 1)]]


def test_the_difference_of_two_generations_has_both_values_of_each_metric():
    told = models.difference(
        said(1, IN_SERVICE, metrics={"loss": 2.0}), said(2, IN_SERVICE, metrics={"recall": 0.5})
    )
    assert told.metrics == {"loss": (2.0, None), "recall": (None, 0.5)}
