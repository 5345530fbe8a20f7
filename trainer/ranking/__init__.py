"""From what was shown and watched to examples for the ranker; see `trainer.ranking.joiner`."""
