"""The page of a creator: uploads, and when they took effect."""
