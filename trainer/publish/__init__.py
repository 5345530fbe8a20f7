"""Bundles and item vectors for the other processes."""
