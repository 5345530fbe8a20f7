"""The tree-based deep model: a beam search instead of an index."""
