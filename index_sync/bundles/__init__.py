"""Announced bundles, and what is taken from one."""
