"""Explain one recommendation from what the topics hold, for `nextwatch why`."""
