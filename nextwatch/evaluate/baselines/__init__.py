"""What a model has to beat; `nextwatch/evaluate/entrants.py` has the table of them."""
