"""Implement the baselines; `nextwatch/evaluate/entrants.py` has the table of them."""
