"""Progressive validation, and the counters behind it."""
