"""Retrieval models of other libraries on the split, the time and the measures of our own."""
