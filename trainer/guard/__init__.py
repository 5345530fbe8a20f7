"""Keep harm out of service: checks before, watching after, and going back."""
