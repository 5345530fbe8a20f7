"""Reports of what was wrong, replayed on a running stack; start reading at `table`."""
