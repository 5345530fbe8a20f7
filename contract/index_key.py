"""Recognise a rejected API key of the vector index, and warn if the key is sent unencrypted."""

from http import HTTPStatus

import structlog

from contract.process.settings import QdrantSettings

log = structlog.get_logger()

REJECTED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
"""What the index answers to a wrong API key, or to none where it wants one."""


def tell_if_in_clear(settings: QdrantSettings) -> None:
    """Log a warning if the API key is sent to the index unencrypted."""
    if settings.sends_key_in_clear:
        log.warning("api_key_sent_in_clear", url=settings.url)
