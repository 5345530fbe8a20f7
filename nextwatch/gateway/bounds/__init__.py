"""The bounds of connections, and of the streams on them."""
