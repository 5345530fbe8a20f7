"""Print diagnoses as a table, with the remedies and one line of summary."""

from collections import Counter
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from nextwatch.doctor.diagnosis import Diagnosis, PartHealth

_STYLES = {
    PartHealth.OK: "green",
    PartHealth.NOTED: "yellow",
    PartHealth.NOT_CHECKED: "yellow",
    PartHealth.WRONG: "red",
}


def table(diagnoses: Sequence[Diagnosis]) -> Table:
    """Return all *diagnoses*; a remedy stands in the row below its finding."""
    drawn = Table("check", "of", "", "found", box=None, pad_edge=False)
    last = ""
    for one in diagnoses:
        name = "" if one.check == last else one.check
        last = one.check
        style = _STYLES[one.health]
        drawn.add_row(Text(name), Text(one.what), Text(one.health, style), Text(one.found))
        if one.remedy and one.health is not PartHealth.OK:
            drawn.add_row("", "", "", Text(f"-> {one.remedy}"))
    return drawn


def summary(diagnoses: Sequence[Diagnosis]) -> str:
    """Return one line: what is wrong first, then what was not checked."""
    counts = Counter(one.health for one in diagnoses)
    told = [f"{counts[health]} {health}" for health in reversed(PartHealth) if counts[health]]
    verdict = "something is wrong" if counts[PartHealth.WRONG] else "nothing is wrong"
    return f"{verdict}: {', '.join(told)}"


def is_healthy(diagnoses: Sequence[Diagnosis]) -> bool:
    """Return whether nothing is wrong; what was not checked is no fault."""
    return not any(one.health is PartHealth.WRONG for one in diagnoses)
