"""Explain that the Kafka named by `--bootstrap` does not answer."""

from collections.abc import Iterator
from contextlib import contextmanager

from contract.errors import BrokerUnavailable

REMEDY = (
    "start it, or name another by --bootstrap HOST:PORT; without --bootstrap this command starts a "
    "broker itself"
)


@contextmanager
def told_of_option(bootstrap_servers: str | None) -> Iterator[None]:
    """Replace the remedy of a broker that does not answer, if `--bootstrap` has named it.

    The setting that other commands find their broker by is not looked at then.
    """
    try:
        yield
    except BrokerUnavailable as error:
        if not bootstrap_servers or not error.has_remedy:
            raise
        raise BrokerUnavailable(error.fact, remedy=REMEDY) from error
