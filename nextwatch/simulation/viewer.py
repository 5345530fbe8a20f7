"""Simulate one viewer: tastes that drift, and choices from a list of videos.

A viewer has an appetite for every category; the appetites walk at random with a slow pull
towards none, so that tastes wander for ever and never run away. Taste is the mixture of the
categories' centres by appetite. How much of a video is watched follows from how near it is
to the taste, and from chance; nothing else in the simulation tells a good recommendation
from a bad one.

Shapes: C categories, L latents; appetites are ``(C,)``, centres ``(C, L)``, a taste ``(L,)``.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from contract.wire.events import Context
from nextwatch.simulation.catalogue import Floats, Video, unit
from nextwatch.simulation.words import EVERYWHERE

APPETITE_SPREAD = 2.5  # one to three categories hold most of the taste
DRIFT = 0.1  # of one appetite at one action: another taste after some hundred actions
WANT = 0.7  # how far a search says that an appetite has grown
KEEP = math.sqrt(1 - (DRIFT / APPETITE_SPREAD) ** 2)  # keeps the spread of the walk as it was
SHARPNESS, NEARNESS = 8.0, 0.45  # interest is 1/2 at this cosine, and how steep it is there
FOREIGN = 0.7  # interest that is left where the language is not understood
INTERESTED = 0.5
NOISE = 0.12
LOOK_ON = 0.9  # the chance to look at one place more: position bias
MEMORY = 200  # videos that are not watched again
TO_THE_END = 0.95  # nobody who got that far leaves


@dataclass(slots=True, eq=False)
class Viewer:
    """A viewer; *appetites* has one number per category.

    Two sources of chance are kept apart: *mood* moves the tastes, *rng* makes the choices, so
    that tastes take the same walk whatever is recommended.
    """

    user_id: str
    context: Context
    appetites: Floats
    mood: np.random.Generator
    rng: np.random.Generator
    wanted: int | None = None
    seen: deque[str] = field(default_factory=lambda: deque(maxlen=MEMORY))

    def drift(self) -> None:
        """Take one step of the random walk."""
        self.appetites = KEEP * self.appetites + self.mood.normal(0, DRIFT, len(self.appetites))

    def want(self) -> int:
        """Return a category that the viewer wants now, and raise the appetite for it."""
        category = int(self.mood.choice(len(self.appetites), p=_shares(self.appetites)))
        self.appetites[category] += WANT
        self.wanted = category
        return category

    def favourite(self) -> int:
        """Return a category, the more likely the greater the appetite for it."""
        return int(self.rng.choice(len(self.appetites), p=_shares(self.appetites)))

    def taste(self, centres: Floats) -> Floats:
        """Return the viewer's taste as a unit vector, from the *centres* of the categories."""
        return unit(_shares(self.appetites) @ centres)

    def interest(self, video: Video, taste: Floats) -> float:
        """Return the expected share of *video* that a viewer of this *taste* watches, 0 to 1."""
        nearness = float(video.latent @ taste)
        interest = 1 / (1 + math.exp(-SHARPNESS * (nearness - NEARNESS)))
        language = video.upload.language
        is_understood = language in {None, EVERYWHERE, self.context.language}
        return interest if is_understood else interest * FOREIGN

    def choose(self, shelf: Sequence[Video], taste: Floats) -> int | None:
        """Return the first place with a new video of interest; None if the viewer gives up."""
        for place, video in enumerate(shelf):
            interest = self.interest(video, taste) + self.rng.normal(0, NOISE)
            if interest > INTERESTED and video.upload.video_id not in self.seen:
                return place
            if self.rng.random() > LOOK_ON:
                return None
        return None

    def watch(self, video: Video, taste: Floats) -> int:
        """Remember *video*, and return for how many milliseconds the viewer watches it."""
        self.seen.append(video.upload.video_id)
        share = self.interest(video, taste) + self.rng.normal(0, NOISE)
        share = 1.0 if share >= TO_THE_END else max(share, 0.02)
        return max(1, int(share * video.upload.duration_ms))


def _shares(appetites: Floats) -> Floats:
    weights: Floats = np.exp(appetites - appetites.max())
    shares: Floats = weights / weights.sum()
    return shares
