"""User and item towers (torch; training only)."""
