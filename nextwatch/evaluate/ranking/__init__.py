"""Measure rankers on logs of exposures: what was shown, what was watched, and for how long."""
