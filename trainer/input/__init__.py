"""Records become examples."""
