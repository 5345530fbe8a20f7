"""Define the version of Nextwatch, for the distribution, the contract and dead letters."""

VERSION = "0.3.0"
"""A release is tagged ``v`` and this, and has a section of its own in CHANGELOG.md."""
