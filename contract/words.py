"""Words that a recommendation says of itself, for whoever reads it."""

CATALOGUE_EMPTY = "catalogue_empty"
"""In `degraded`: there is no video to recommend, so the list is empty."""
ALL_SEEN = "all_seen"
"""In `degraded`: the user has watched everything there is; watched videos come back."""
SEEN_AGAIN = "seen_again"
"""The `source` of a video that comes back because of `ALL_SEEN`; the longest ago stands first."""
