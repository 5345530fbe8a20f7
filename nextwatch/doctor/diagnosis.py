"""Define what `nextwatch doctor` says of one part, and run its checks, each within a bound.

A check is a generator of diagnoses. Whatever goes wrong in one, and a part that does not answer,
is one more diagnosis; the other checks go on.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from threading import Thread
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from contract.errors import NextwatchError
from nextwatch.operate.terminal import one_line

T = TypeVar("T")

_USER_INFO = re.compile(r"(?<=://)[^/\s@]+@")
_HIDDEN = "(hidden)"
_SHORT_SECRET = 4
_MOST_CHARS = 500
_LONGER = "look whether this part hangs, or give it longer by --check-wait"
_LOOK = "the rest of this check was left out; mend what is found, and run it again"


class PartHealth(StrEnum):
    """The outcome of one look; only `WRONG` makes the exit code 1."""

    OK = "ok"
    NOTED = "noted"
    NOT_CHECKED = "not checked"
    WRONG = "wrong"


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of one thing, and what to do about it if it is wrong."""

    check: str
    what: str
    health: PartHealth
    found: str
    remedy: str = ""


Check = Callable[[], Iterable[Diagnosis]]


class UnansweredError(NextwatchError):
    """A check did not end within its bound."""


def within(timeout_s: float, call: Callable[[], T]) -> T:
    """Return the result of *call*, which goes on in a thread of its own when it takes too long.

    Raises:
        UnansweredError: it did not end within *timeout_s*.
        Exception: what *call* raised.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - handed over to the thread that waits
            errors.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise UnansweredError(f"it did not end within {timeout_s:g} s")
    return results[0]


def examine(
    name: str, what: str, check: Check, *, timeout_s: float, secrets: Sequence[str] = ()
) -> list[Diagnosis]:
    """Return the diagnoses of *check*, with one more of *what* where it broke off.

    None of them shows *secrets*.
    """
    found: list[Diagnosis] = []

    def collect() -> bool:
        found.extend(check())
        return True

    try:
        within(timeout_s, collect)
    except UnansweredError as error:
        found = [*found, _broken(name, what, str(error), _LONGER)]
    except NextwatchError as error:
        fact, _, remedy = str(error).rpartition(": ")
        found = [*found, _broken(name, what, fact or remedy, remedy if fact else "")]
    except Exception as error:  # noqa: BLE001 - one part that fails must not hide the others
        found = [*found, _broken(name, what, f"{type(error).__name__}: {error}")]
    return [_printable(each, secrets) for each in list(found)]


def _broken(name: str, what: str, found: str, remedy: str = "") -> Diagnosis:
    return Diagnosis(
        check=name, what=what, health=PartHealth.WRONG, found=found, remedy=remedy or _LOOK
    )


def _printable(one: Diagnosis, secrets: Sequence[str]) -> Diagnosis:
    """Return *one* without secrets, and without characters that a terminal acts on."""

    def told(text: str) -> str:
        for secret in secrets:
            if len(secret) >= _SHORT_SECRET:
                text = text.replace(secret, _HIDDEN)
        return one_line(_USER_INFO.sub(f"{_HIDDEN}@", text), most=_MOST_CHARS)

    return replace(one, what=told(one.what), found=told(one.found), remedy=told(one.remedy))
