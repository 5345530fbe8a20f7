"""Write the page of ablations: a new run replaces the section of its ablation and log."""

import re
from pathlib import Path

PAGE = Path("docs/results/ablations.md")
_ABOUT = """# Ablations

What each part of a retrieval model is worth. `python -m benchmarks.ablations NAME --data ... --report` measures
one anew and replaces its section here. Differences are to the first line, case by case, with the bounds between which 95 %
of 1,000 draws of users have them; CPU seconds are of one thread. Nothing of the test is looked at: `kuairand` is 25-30 April,
`ml1m` the second last film of every user.
"""
_HEADING = re.compile(r"^## ", re.MULTILINE)


def written(page: Path, heading: str, text: str) -> None:
    """Put *text* under *heading* into *page*, in place of what stood there; sorted by heading."""
    before = page.read_text(encoding="utf-8") if page.exists() else _ABOUT
    _, *parts = _HEADING.split(before)
    sections = dict(part.split("\n", 1) for part in parts) | {heading: text}
    body = "\n".join(f"## {name}\n\n{sections[name].strip()}\n" for name in sorted(sections))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f"{_ABOUT}\n{body}", encoding="utf-8")
