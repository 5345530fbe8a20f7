"""The outcomes as a table in Markdown, as a page that says how they came to be, and as JSON."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.peers.retrieval.contest import RetrievalOutcome
from nextwatch.evaluate.report import rounded

COLUMNS = (
    *("model", "HR@10", "95 %", "NDCG@10", "R@100", "cov@100"),
    *("validation NDCG@10", "learning, CPU s", "in all, CPU s"),
)
_ABOUT = """# Retrieval beside its peers

Models of other libraries on MovieLens-1M, beside ours: the same split, the same processor time, one thread each,
ranked by the same code. [Evaluation](../evaluation.md) says what the protocol is: the last film of each user, the whole
catalogue, what was watched left out. Nobody is given the tests; settings were chosen, and learning was stopped, by the second
last film of the same 512 users.

* What has sequences learns until its time is over, or the validation rises no more; the best weights make the lists.
  Ours have no early stopping: they learn as many epochs of their preset as there is time for.
* What is fitted in seconds (implicit) has its settings chosen in the same time, by the same validation.
* The peers read the ids of films alone. Ours read titles and genres besides, as they do in the trainer.
* Learning is what the time bounds. The rest of a process is reading, validating at the end, and the lists of all users.
* The peers' libraries are used as their guides have it, with settings for minutes on a core instead of hours on a GPU: with more
  time they would get further.
"""


def rows(outcomes: Sequence[RetrievalOutcome]) -> list[tuple[str, ...]]:
    """Return the lines of the table, the best NDCG@10 first, then those without figures."""
    measured = sorted(
        (one for one in outcomes if one.figures), key=lambda one: -one.figures["ndcg_at_10"]
    )
    lines = [_row(one) for one in measured]
    for one in outcomes:
        if not one.figures:
            word = "failed" if one.is_failed else "skipped"
            blank = [""] * (len(COLUMNS) - 2)
            lines.append((one.contestant.title, f"{word}: {one.reason}", *blank))
    return lines


def _row(one: RetrievalOutcome) -> tuple[str, ...]:
    figures, validation = one.figures, one.told["validation"]
    low, high = figures["intervals"]["recall_at_10"]
    title = one.contestant.title
    return (
        f"**{title}**" if one.contestant.is_ours else title,
        _short(figures["recall_at_10"]),
        f"{_short(low)} to {_short(high)}",
        _short(figures["ndcg_at_10"]),
        _short(figures["recall_at_100"]),
        _short(figures["coverage_at_100"]),
        "" if validation is None else _short(validation),
        f"{one.told['learn_s']:.0f}",
        f"{one.cpu_s:.0f}",
    )


def table(lines: Sequence[Sequence[str]]) -> str:
    """Return *lines* as a Markdown table."""
    ruler = ["---", *["---:"] * (len(COLUMNS) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (COLUMNS, ruler, *lines))


def page(outcomes: Sequence[RetrievalOutcome], facts: Mapping[str, Any]) -> str:
    """Return the whole page of results."""
    about = (
        f"`python -m benchmarks.peers.retrieval --data ml1m:DIR --minutes {facts['minutes']:g}`: seed"
        f" {facts['seed']}, {facts['n']:,} users, {facts['num_videos']:,} films; {facts['minutes']:g} minutes of"
        f" processor time for each; load average {facts['load_1m']} on {facts['cpus']} processors before the start."
    )
    parts = [_ABOUT, about, "", table(rows(outcomes)), "", "## Versions and settings", ""]
    return "\n".join([*parts, *_settings(outcomes), ""])


def _settings(outcomes: Sequence[RetrievalOutcome]) -> Iterator[str]:
    for one in outcomes:
        if one.figures:
            versions = ", ".join(f"{name} {of}" for name, of in one.told["versions"].items())
            settings = ", ".join(f"{name} {of}" for name, of in one.told["settings"].items())
            yield f"* {one.contestant.title} ({versions}): {settings}."


def summary(outcomes: Sequence[RetrievalOutcome], facts: Mapping[str, Any]) -> str:
    """Return everything as one line of JSON."""
    models = {
        one.contestant.name: {**one.figures, **one.told, "cpu_s": one.cpu_s}
        for one in outcomes
        if one.figures
    }
    missing = {
        word: {
            one.contestant.name: one.reason
            for one in outcomes
            if not one.figures and one.is_failed is is_failed
        }
        for word, is_failed in (("skipped", False), ("failed", True))
    }
    return json.dumps(rounded({**facts, "models": models, **missing}))


def _short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")
