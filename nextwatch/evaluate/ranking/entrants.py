"""List who takes part in an evaluation of rankers, by name.

A contender is one line here.
"""

import dataclasses
from collections.abc import Callable, Mapping

from contract.errors import DatasetError
from models.ranking.config import RANKERS, RankerConfig
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


DEFAULT = RANKERS["expected_watch_time"]
ABLATIONS: Mapping[str, RankerConfig] = {
    config.name: config
    for config in (
        dataclasses.replace(DEFAULT, name="no_square_and_root", has_roots=False),
        dataclasses.replace(DEFAULT, name="unweighted", is_weighted=False),
        dataclasses.replace(DEFAULT, name="hidden_none", hidden=()),
        dataclasses.replace(DEFAULT, name="hidden_256", hidden=(256,)),
        dataclasses.replace(DEFAULT, name="hidden_512", hidden=(512,)),
        dataclasses.replace(DEFAULT, name="hidden_1024", hidden=(1024,)),
        dataclasses.replace(DEFAULT, name="hidden_1024_512_256", hidden=(1024, 512, 256)),
    )
}
"""The table of Covington 2016, section 4.3: the default ranker with one thing changed."""


def _ranker(config: RankerConfig) -> Callable[[int], RankContender]:
    def made(seed: int) -> RankContender:
        try:
            from nextwatch.evaluate.ranking.contenders.product import (  # noqa: PLC0415 - an extra
                ProductRanker,
            )
        except ImportError as error:
            raise DatasetError(
                f"{config.name} needs {error.name}: pip install 'nextwatch[train]'"
            ) from None
        return ProductRanker(config, seed)

    return made


def everybody() -> list[str]:
    """Return who takes part where nobody is named: all but the ablations."""
    return [*BASELINES, *RANKERS]


def contenders() -> Mapping[str, Callable[[int], RankContender]]:
    """Return all contenders: the baselines, the rankers of the product, and the ablations."""
    configs = (*RANKERS.values(), *ABLATIONS.values())
    return {**BASELINES, **{config.name: _ranker(config) for config in configs}}


def check(names: list[str]) -> None:
    """Check that there are contenders of these names.

    Raises:
        DatasetError: there is one that is not known.
    """
    if unknown := [name for name in names if name not in contenders()]:
        known = ", ".join(contenders())
        raise DatasetError(f"unknown model {', '.join(unknown)}; known: {known}")
