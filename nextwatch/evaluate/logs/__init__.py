"""Lay out real logs for trials; `trial.py` defines the layout."""
