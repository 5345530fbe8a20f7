"""The vector collections, one per generation, and the index that has them."""
