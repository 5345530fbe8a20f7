"""What a user of Nextwatch writes; the benchmarks use it, too."""

from benchmarks.player import Player, eventually, player_of

__all__ = ["Player", "eventually", "player_of"]
