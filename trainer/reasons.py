"""Name why bundles are withheld, and what the joiner makes of records: labels of metrics."""

WITHHELD = {
    "unknown": "the announcements of bundles are not read to their end yet, or leave no number",
    "loss": "the loss is not finite",
    "metrics": "the progressive metrics are worse than those of the newest bundle that is not withdrawn",
    "guard": "the guard holds it back: it is worse than what serves, or that is not known yet",
    "refused": "it does not pass the checks that readers make",
    "store": "the store of bundles, or the disk, does not take it",
    "checkpoint": "its checkpoint could not be saved",
    "backed_up": "the bundles before it are not in service yet",
}
"""Every reason of bundles that are withheld, and its meaning."""

JOINED_RESULTS = {
    "positive": ("ranking_positives", "an impression that was watched"),
    "negative": ("ranking_negatives", "an impression that was not watched in its label window"),
    "late": ("ranking_late", "of the positives, those watched after the label window"),
    "unmatched_impression": ("ranking_unmatched", "an impression whose features never came"),
    "unmatched_watch": ("ranking_unmatched_watches", "a watch without an impression"),
    "too_old": ("ranking_too_old", "a record from before what is kept"),
    "dropped": ("ranking_dropped", "an entry that was dropped for want of room"),
}
"""What the joiner made of a record: how the training state counts it, and its meaning."""
