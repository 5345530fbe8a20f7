"""Print the findings of `nextwatch topics` as a table and lines."""

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from nextwatch.topics.findings import Finding, Outcome

_STYLES = {
    Outcome.CREATED: "green",
    Outcome.MENDED: "green",
    Outcome.MISSING: "red",
    Outcome.DIFFERS: "red",
    Outcome.NOT_CHECKED: "yellow",
    Outcome.NOTED: "yellow",
}


def table(findings: Sequence[Finding]) -> Table:
    """Return the findings that differ from the contract, or did before, as a table."""
    columns = ("topic", "what", "wanted", "found", "outcome")
    drawn = Table(*columns, box=None, pad_edge=False)
    for finding in findings:
        if finding.outcome is not Outcome.SAME:
            style = _STYLES[finding.outcome]
            outcome = f"[{style}]{finding.outcome}[/]"
            drawn.add_row(finding.topic, finding.what, finding.wanted, finding.found, outcome)
    return drawn


def summary(findings: Sequence[Finding]) -> str:
    """Return one line with the number of topics and of their properties, these by outcome."""
    counts = Counter(finding.outcome for finding in findings)
    num_topics = len({finding.topic for finding in findings})
    told = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
    return f"{num_topics} topics with {len(findings)} properties: {', '.join(told)}"


def remedies(findings: Sequence[Finding]) -> list[str]:
    """Return the remedies, one line for each difference that is left."""
    return [
        f"{finding.topic}: {finding.what} is {finding.found or 'missing'}, wanted "
        f"{finding.wanted}: {finding.remedy}"
        for finding in findings
        if finding.is_bad
    ]


def notes(findings: Sequence[Finding]) -> list[str]:
    """Return the operator's choices that have consequences, one line for each."""
    return [
        f"{finding.topic}: {finding.what} is {finding.found}: {finding.remedy}"
        for finding in findings
        if finding.outcome is Outcome.NOTED
    ]
