"""Retrieval models of other libraries on our split, with our time limit and our measures."""
