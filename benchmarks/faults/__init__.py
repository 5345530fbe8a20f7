"""A real stack under a seeded schedule of faults; start reading at `rounds`."""
