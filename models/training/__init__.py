"""How towers learn (torch; training only)."""
