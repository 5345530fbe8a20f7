"""What a process needs of a cluster, and what is wrong with it."""
