"""Rolling history windows and their bytes; needs no torch."""
