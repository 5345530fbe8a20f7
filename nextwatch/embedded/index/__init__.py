"""Run the embedded vector index."""
