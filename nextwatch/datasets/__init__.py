"""Read public datasets as they are published."""
