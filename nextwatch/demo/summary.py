"""Summarise a run as lines of text."""

from collections.abc import Mapping

from nextwatch.demo.figures.report import Report
from nextwatch.demo.panel import NAME_WIDTH, ONE_FOR_SEVERAL, answers, counts, ms, ranker, recalls


def summary(figures: Report) -> list[str]:
    """Return the figures of the whole run, a line for each kind."""
    rows = {
        "events": f"{answers(figures)}, {_missing(figures)}",
        "": f"({ONE_FOR_SEVERAL})" if figures.recommendations_out < figures.answered else "",
        "event → recommendation": ms(figures.event_to_recommendation_ms),
        "upload → retrievable": f"{ms(figures.upload_to_retrievable_ms)}, "
        f"{figures.uploads:,} uploads, {_not_found(figures)}",
        "generation": f"{figures.generation} in service, {figures.generations_served} served, "
        f"{recalls(figures)}",
        "ranker": f"{ranker(figures)}, {figures.ranker_examples:,} shown videos learned from"
        if figures.ranker_examples
        else "",
        "dead letters": f"{figures.dead_letters}, degraded {counts(figures.degraded)}",
        "restarted": counts(figures.restarts),
        **_costs(figures),
    }
    told = [f"  {name:<{NAME_WIDTH}}  {row}" for name, row in rows.items() if row]
    return [f"{_how(figures)} after {figures.seconds:,.0f} s", *told]


def _missing(figures: Report) -> str:
    """Tell what was lost; nothing, if the run ended before the last answers were waited for."""
    if figures.unanswered:
        return f"{figures.unanswered:,} unanswered at the stop"
    return f"lost {figures.lost:,}"


def _not_found(figures: Report) -> str:
    if figures.unfound_uploads:
        return f"{figures.unfound_uploads} not found yet at the stop"
    return f"{figures.lost_uploads} not found"


def _how(figures: Report) -> str:
    if figures.error is not None:
        return "failed"
    return "stopped" if figures.interrupted else "ended"


def _costs(figures: Report) -> dict[str, str]:
    """Return what each process took; nothing where the run ended before it was looked at."""
    memory = {name: sizes["end"] for name, sizes in figures.memory_mb.items() if "end" in sizes}
    shares = {name: taken["run"] or 0.0 for name, taken in figures.cpu_percent.items()}
    costs = {"memory": (memory, "MiB"), "CPU": (shares, "% of a core")}
    return {
        name: f"{sum(taken.values()):,.0f} {unit}: {_each(taken)}"
        for name, (taken, unit) in costs.items()
        if taken
    }


def _each(taken: Mapping[str, float]) -> str:
    ordered = sorted(taken.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{name} {value:,.0f}" for name, value in ordered)
