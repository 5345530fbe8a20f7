"""Find videos by the words of a query: an inverted index over titles, tags and categories.

A word of a query matches a word of a video when they are equal, or when their character trigrams
overlap (`models.features.text`), so that `guitars` finds `guitar`. A rare word counts more than a
common one, by its inverse document frequency, smoothed by what its form says
(`streams.serving.query_words`) and never more than that: most queries are half filler words, which
a small catalogue may hardly have. The similar words are looked up in the vocabulary and not in the
videos: it is much smaller, and an upload of known words adds none.

Numbers of videos are given in the order of uploads; one that is replaced or taken down leaves a
dead number behind, and the index is packed when half of them are dead.
"""

from array import array
from math import log
from threading import Lock

import numpy as np
import xxhash
from jaxtyping import Float32

from contract.wire.events import VideoUpload
from models.features.features import tag_text
from models.features.text import ngrams, words
from streams.serving.query_words import expected_share

# Shape legend: N = numbers of videos, V = words.

MIN_OVERLAP = 0.5
"""Dice coefficient of the trigrams of two words from which on one stands for the other."""
MAX_SIMILAR = 50
"""Words of the vocabulary that stand for one of a query, at most."""
MIN_SHARE_OF_BEST = 0.4
"""What scores less than this share of the best match is left out."""
MIN_WEIGHT = 1.5
"""A video has to match a word of at least this weight by its form, if the query has one."""
_PRIOR_VIDEOS = 500
"""As many videos as the form of a word counts for in its document frequency."""
_MIN_DEAD = 1_000


class TextIndex:
    """The text of every video that is up. One thread may write while others search."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._word_of: dict[str, int] = {}
        self._words: list[str] = []
        self._numbers: list[array[int]] = []  # by word
        self._num_ngrams = array("I")  # by word
        self._of_ngram: dict[str, array[int]] = {}  # words by n-gram
        self._video_ids: list[str] = []
        self._number_of: dict[str, int] = {}
        self._digests: list[int] = []
        self._dead: list[int] = []

    def __len__(self) -> int:
        return len(self._number_of)

    def put(self, upload: VideoUpload) -> None:
        """Index the text of a video, in place of its former text."""
        texts = [upload.title, upload.category or "", *map(tag_text, upload.tags)]
        text = "\n".join(texts)
        digest = xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
        number = self._number_of.get(upload.video_id)
        if number is not None and self._digests[number] == digest:
            return
        found = {word for one in texts for word in words(one)}
        with self._lock:
            self._remove(upload.video_id)
            number = self._number_of[upload.video_id] = len(self._video_ids)
            self._video_ids.append(upload.video_id)
            self._digests.append(digest)
            for word in found:
                self._numbers[self._word(word)].append(number)

    def remove(self, video_id: str) -> None:
        """Remove a video; an unknown one is ignored."""
        with self._lock:
            self._remove(video_id)

    def find(self, query: str, most: int) -> list[tuple[str, float]]:
        """Return up to *most* videos with their scores, the best of which is 1."""
        with self._lock:
            score_N = np.zeros(len(self._video_ids), np.float32)
            is_match_N = np.zeros(len(self._video_ids), np.bool_)
            most_of = {word: -log(expected_share(word)) for word in words(query)}
            needed = min(MIN_WEIGHT, max(most_of.values(), default=0.0))
            for word, weight in most_of.items():
                strength_N = self._strength(word)
                is_found_N = strength_N > 0
                rarity = self._rarity(word, int(np.count_nonzero(is_found_N)))
                strength_N *= np.float32(min(weight, rarity))
                score_N += strength_N
                if weight >= needed:
                    is_match_N |= is_found_N
            score_N[~is_match_N] = 0.0
            best = float(score_N.max(initial=0.0))
            if not best:
                return []
            numbers = np.flatnonzero(score_N >= MIN_SHARE_OF_BEST * best)
            order = np.argsort(-score_N[numbers], kind="stable")
            found = [
                (self._video_ids[number], float(score_N[number]) / best)
                for number in numbers[order].tolist()
                if self._video_ids[number]
            ]
            return found[:most]

    def _strength(self, word: str) -> Float32[np.ndarray, "N"]:
        """Return how well every number matches a word of a query: 1 where it bears it."""
        strength_N = np.zeros(len(self._video_ids), np.float32)
        for strength, similar in sorted(self._similar(word))[-MAX_SIMILAR:]:
            strength_N[self._numbers[similar]] = strength
        strength_N[self._dead] = 0.0
        return strength_N

    def _rarity(self, word: str, num_found: int) -> float:
        """Return the inverse document frequency of *word*, smoothed by its prior."""
        num_expected = _PRIOR_VIDEOS * expected_share(word)
        return log((len(self) + _PRIOR_VIDEOS) / (num_found + num_expected))

    def _similar(self, word: str) -> list[tuple[float, int]]:
        """Return the words of the vocabulary that stand for *word*, and how well."""
        known = self._word_of.get(word)
        similar = [] if known is None else [(1.0, known)]
        parts = ngrams(word)
        found = [self._of_ngram[part] for part in parts if part in self._of_ngram]
        if found:
            shared_V = np.bincount(np.concatenate(found), minlength=len(self._numbers))
            overlap_V = 2 * shared_V / (len(parts) + np.array(self._num_ngrams))
            others = np.flatnonzero(overlap_V >= MIN_OVERLAP).tolist()
            similar += [
                (_strength(word, self._words[other], float(overlap_V[other])), other)
                for other in others
                if other != known
            ]
        return similar

    def _word(self, word: str) -> int:
        """Return the number of *word*; a new one is indexed by its n-grams."""
        known = self._word_of.get(word)
        if known is not None:
            return known
        new = self._word_of[word] = len(self._numbers)
        parts = ngrams(word)
        self._words.append(word)
        self._numbers.append(array("I"))
        self._num_ngrams.append(len(parts))
        for part in parts:
            self._of_ngram.setdefault(part, array("I")).append(new)
        return new

    def _remove(self, video_id: str) -> None:
        number = self._number_of.pop(video_id, None)
        if number is None:
            return
        self._video_ids[number] = ""
        self._dead.append(number)
        if len(self._dead) >= max(_MIN_DEAD, len(self._number_of)):
            self._pack()

    def _pack(self) -> None:
        """Give the living new numbers and forget the words that only the dead had."""
        is_alive_N = np.array([bool(video_id) for video_id in self._video_ids])
        new_N = np.cumsum(is_alive_N) - 1
        kept = {}
        for word, entry in self._word_of.items():
            numbers = np.array(self._numbers[entry], np.int64)
            kept[word] = array("I", new_N[numbers[is_alive_N[numbers]]].tolist())
        self._word_of, self._words, self._numbers, self._of_ngram = {}, [], [], {}
        self._num_ngrams = array("I")
        for word, of_word in kept.items():
            if of_word:
                self._numbers[self._word(word)] = of_word
        self._dead = []
        self._digests = [self._digests[number] for number in np.flatnonzero(is_alive_N)]
        self._video_ids = [video_id for video_id in self._video_ids if video_id]
        self._number_of = {video_id: n for n, video_id in enumerate(self._video_ids)}


def _strength(word: str, other: str, overlap: float) -> float:
    """Return how well *other* stands for *word*: better where one is the other with an ending."""
    is_longer = other.startswith(word) or word.startswith(other)
    return overlap if is_longer else overlap**2
