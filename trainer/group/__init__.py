"""Several trainer processes that train one model."""
