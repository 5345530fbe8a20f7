"""Make offline products of bundle, windows and logs; `recommend.py` first."""
