"""What each part of a retrieval model is worth: the same training with and without it."""
