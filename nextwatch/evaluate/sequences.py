"""A learner that studies whole histories in epochs before a trial without times (torch).

It learns by `models.sequence_training` and is scored as every learner is: through the exported
ONNX tower and the vectors of the bundle. How many epochs is chosen beforehand; the users set
apart for validation are listened to, epoch by epoch, and nobody learns from them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from contract.events import VideoUpload
from models.history import DAY_MS
from models.presets import OF_SEQUENCES, SequencePreset
from models.retriever import RetrieverConfig
from models.sequence_training import Recipe
from nextwatch.evaluate import ranks
from nextwatch.evaluate.contender import Case
from nextwatch.evaluate.learned import Learned
from nextwatch.evaluate.trial import History
from trainer.histories import PastWatches

T = TypeVar("T", RetrieverConfig, Recipe)

_RECIPE = "recipe."


class Epoch(NamedTuple):
    """The loss of one epoch, and what the validation said after it; empty without validation."""

    number: int
    loss: float
    validation: dict[str, float]


class Schooled(Learned):
    """A `Learner` that has learned all histories by the recipe of *preset* before it is asked."""

    def __init__(self, preset: SequencePreset, *, seed: int) -> None:
        super().__init__(preset.config, seed=seed)
        self._preset = preset
        self.epochs: list[Epoch] = []

    def prepare(
        self,
        uploads: Sequence[VideoUpload],
        histories: Sequence[History],
        validation: Sequence[Case],
    ) -> None:
        """Make the videos known, in the order of the columns, and learn the histories."""
        super().prepare(uploads, (), ())
        video_ids = self.learner.video_ids
        self.learner.study_histories(
            [
                PastWatches([video_ids[column] for column in one.columns], one.is_completed)
                for one in histories
            ],
            self._preset.recipe,
            span_ms=DAY_MS,  # for live signals, which no preset of sequences has
            goes_on=lambda number, loss: self._note(number, loss, validation),
        )

    def _note(self, number: int, loss: float, validation: Sequence[Case]) -> bool:
        self.epochs.append(Epoch(number, loss, self._measured(validation)))
        return True

    def _measured(self, cases: Sequence[Case]) -> dict[str, float]:
        if not cases:
            return {}
        score_BN = self.learner.similarity([self.example(case, case.label) for case in cases])
        found = ranks.rank(score_BN, [case.label for case in cases], [one.exposed for one in cases])
        return ranks.means(ranks.gains(found))


def model(name: str, *, seed: int, overrides: Mapping[str, str]) -> Schooled:
    """Return a new model that has learned nothing yet, as `models.presets.OF_SEQUENCES` says.

    *overrides* are fields of `RetrieverConfig`, or of `Recipe` behind ``recipe.``, as text.

    Raises:
        ValueError: there is no such model or field, or it does not take the value.
    """
    if name not in OF_SEQUENCES:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(sorted(OF_SEQUENCES))}")
    config, recipe = OF_SEQUENCES[name]
    of_recipe = {key: overrides[key] for key in overrides if key.startswith(_RECIPE)}
    of_config = {key: overrides[key] for key in overrides if key not in of_recipe}
    bare = {key.removeprefix(_RECIPE): value for key, value in of_recipe.items()}
    return Schooled(SequencePreset(_changed(config, of_config), _changed(recipe, bare)), seed=seed)


def _changed(whole: T, overrides: Mapping[str, str]) -> T:
    """Return *whole* with some fields given as text."""
    ours = {one.name: getattr(whole, one.name) for one in dataclasses.fields(whole)}
    known = ours.keys() - {"model"}
    if unknown := sorted(overrides.keys() - known):
        raise ValueError(
            f"unknown settings: {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    try:
        return msgspec.convert({**ours, **overrides}, type(whole), strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"a setting is refused: {error}") from error
