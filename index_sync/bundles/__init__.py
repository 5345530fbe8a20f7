"""Track announced bundles, and load them."""
