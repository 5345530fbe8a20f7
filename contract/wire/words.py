"""Define the words in recommendations and their meaning, for code and AsyncAPI document.

To add a word: a constant and its line in the table. A test compares the constants of `streams`
with these tables. Consumers must expect words that they do not know.
"""

NO_BUNDLE = "no_bundle"
MODEL_BROKEN = "model_broken"
INDEX_AWAY = "index_away"
CATALOGUE_EMPTY = "catalogue_empty"
ALL_SEEN = "all_seen"

ANN = "ann"
TDM = "tdm"
EXACT = "exact"
LAST_GOOD = "last_good"
TRENDING = "trending"
SIMILAR = "similar"
HOTTEST = "hottest"
SEARCH = "search"
SEEN_AGAIN = "seen_again"

DEFAULT_ARM = "default"

DEGRADED = {
    NO_BUNDLE: "no model is in service yet: the list is what was watched most",
    MODEL_BROKEN: "the model failed for this user: the list is trending videos, or ranked without it",
    INDEX_AWAY: "the vector index did not answer in time: candidates came from memory",
    CATALOGUE_EMPTY: "there is no video to recommend: the list is empty",
    ALL_SEEN: "the user has watched every video there is: watched ones come back",
}
"""What a recommendation had to do without; an empty list means that nothing was missing."""

SOURCES = {
    ANN: "nearest to the user's vector, by the vector index",
    TDM: "found by a beam search through the tree of the model",
    EXACT: "nearest to the user's vector, by a search through all videos in memory",
    LAST_GOOD: "what the index last found for this user, while it does not answer",
    TRENDING: "watched most lately by everybody",
    SIMILAR: "on the list of videos similar to one that this user has just watched",
    HOTTEST: "on the list of the most watched videos of the user's country, or of all",
    SEARCH: "its title, category or tags match what the user has just searched for",
    SEEN_AGAIN: "watched by this user before, the longest ago first: there is nothing unseen",
}
"""Where a recommended video came from."""

ARMS = {DEFAULT_ARM: "the one way in which recommendations are made; no experiment runs"}
"""Which arm of an experiment a recommendation belongs to."""
