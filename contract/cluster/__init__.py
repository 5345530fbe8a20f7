"""Check that a cluster has what a process needs."""
