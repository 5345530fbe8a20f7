"""Child processes: start, supervision, end."""
