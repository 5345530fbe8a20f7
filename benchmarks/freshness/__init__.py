"""Measures how soon what was learned is served, and that no two generations are mixed."""
