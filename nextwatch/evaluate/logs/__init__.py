"""Real logs, each laid out for a trial; `trial.py` says as what."""
