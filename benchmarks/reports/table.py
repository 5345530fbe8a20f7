"""The table of all rows, by the section of the report.

A row is replayed under its own prefix on a broker and an index that its section shares. What is
right was written down when the report was made; what is judged is what a user sees: answers,
topics, logs, exit codes, readiness.
"""

from benchmarks.reports import (
    section1,
    section2,
    section2_leaders,
    section3,
    section4,
    section5,
    section6,
    section8,
    section8_group,
    section8_rights,
    section10,
)
from benchmarks.reports.row import Row

SECTIONS: dict[str, tuple[Row, ...]] = {
    "1": section1.ROWS,
    "2": section2.ROWS + section2_leaders.ROWS,
    "3": section3.ROWS,
    "4": section4.ROWS,
    "5": section5.ROWS,
    "6": section6.ROWS,
    "8": section8.ROWS + section8_group.ROWS + section8_rights.ROWS,
    "10": section10.ROWS,
}

NUMBERS = tuple(row.number for rows in SECTIONS.values() for row in rows)
