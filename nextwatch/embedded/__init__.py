"""Run the whole system on one machine, without containers. Read ``embedded/stack.py`` first."""
