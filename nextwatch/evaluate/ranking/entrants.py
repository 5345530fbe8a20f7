"""List who takes part in an evaluation of rankers, by name.

A contender is one line here.
"""

from collections.abc import Callable, Mapping

from contract.errors import DatasetError
from nextwatch.evaluate.ranking.contender import RankContender
from nextwatch.evaluate.ranking.contenders.control import Control
from nextwatch.evaluate.ranking.contenders.factorisation_machine import FactorisationMachine
from nextwatch.evaluate.ranking.contenders.gradient_boosting import GradientBoosting
from nextwatch.evaluate.ranking.contenders.live_counter import LiveCounter

CONTROL = "control"
BASELINES: Mapping[str, Callable[[int], RankContender]] = {
    CONTROL: lambda _seed: Control(),
    "live_counter": lambda _seed: LiveCounter(),
    "live_counter_x_surface": lambda _seed: LiveCounter(has_surface=True),
    "factorisation_machine": FactorisationMachine,
    "lightgbm": GradientBoosting,
}
"""By name, a function from the seed to a new contender."""
UNSEEDED = (CONTROL, "live_counter", "live_counter_x_surface")
"""Those that draw nothing: one seed says all."""


def contenders() -> Mapping[str, Callable[[int], RankContender]]:
    """Return all contenders: the baselines, and the rankers of the product."""
    return BASELINES


def check(names: list[str]) -> None:
    """Check that there are contenders of these names.

    Raises:
        DatasetError: there is one that is not known.
    """
    if unknown := [name for name in names if name not in contenders()]:
        known = ", ".join(contenders())
        raise DatasetError(f"unknown model {', '.join(unknown)}; known: {known}")
