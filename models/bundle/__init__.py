"""Model bundles: what the trainer hands over to serving and index."""
