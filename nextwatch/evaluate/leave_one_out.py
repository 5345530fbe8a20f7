"""Rank each user's last watch among the whole catalogue, for logs without times.

Everybody learns beforehand from all that comes before, and nobody learns while being tested.
"""

from collections.abc import Sequence

from nextwatch.evaluate.contender import TrainingData
from nextwatch.evaluate.logs.ml1m import Halves
from nextwatch.evaluate.prequential import LIVE, Entrant, Tell, Tested, ignore_progress, prepare

CASES_AT_A_TIME = 128


def run(halves: Halves, entrants: Sequence[Entrant], *, tell: Tell = ignore_progress) -> Tested:
    """Evaluate all *entrants* on *halves*, and return the tested cases."""
    training = TrainingData(halves.uploads, halves.histories, halves.validation)
    prepare(training, entrants, tell)
    for start in range(0, len(halves.tests), CASES_AT_A_TIME):
        cases = halves.tests[start : start + CASES_AT_A_TIME]
        for entrant in entrants:
            entrant.score(LIVE, entrant.contender, cases)
        tell("testing", (start + len(cases)) / len(halves.tests))
    user_ids = [case.user_id for case in halves.tests]
    completed = {column for history in halves.histories for column in history.completed}
    is_cold = [case.label not in completed for case in halves.tests]
    return Tested(user_ids, ["all"] * len(user_ids), is_cold)
