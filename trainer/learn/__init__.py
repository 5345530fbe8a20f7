"""Models that learn, and what the trainer needs of one."""
