"""Public datasets, read as they are published."""
