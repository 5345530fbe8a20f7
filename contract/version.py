"""The version of Nextwatch: of the distribution, the contract and every dead letter."""

VERSION = "0.3.0"
"""A release is tagged ``v`` and this, and has a section of its own in CHANGELOG.md."""
