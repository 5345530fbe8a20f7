"""Evaluate retrieval and ranker together, over the whole catalogue."""
