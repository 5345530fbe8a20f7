"""A simulated audience and its catalogue."""
