"""Past bug reports, replayed on a running stack; start reading at `table`."""
