"""The benchmark of the guard: poison, and how soon it is seen and undone."""
