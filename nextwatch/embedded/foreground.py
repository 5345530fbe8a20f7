"""The embedded stack in a terminal: up until Ctrl-C, with its addresses in a file.

The file holds one ``NAME=value`` a line. It is there while the stack is, so that another
terminal finds the stack by ``eval "$(nextwatch stack env)"``.
"""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event

from contract.errors import StackError
from nextwatch.embedded.stack import EmbeddedStack

_ADDRESSES = ("NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS", "NEXTWATCH_QDRANT_URL")
_CHECK_EVERY_S = 0.5


def run(
    stack: EmbeddedStack, env_file: Path, *, is_over: Event, tell: Callable[[str], None]
) -> None:
    """Start *stack*, keep it up until *is_over*, and stop it; *tell* is given lines to print.

    Raises:
        StackError: it did not start, or did not stay up.
    """
    try:
        stack.start()
        write(env_file, stack.env)
        for line in banner(stack.env, env_file):
            tell(line)
        tell(f"files   {stack.directory}; Ctrl-C stops the stack")
        while not is_over.wait(_CHECK_EVERY_S):
            stack.check()
    finally:
        env_file.unlink(missing_ok=True)
        stack.stop()


def banner(env: Mapping[str, str], env_file: Path) -> list[str]:
    """Return what a person needs to use a stack: its addresses, and how processes find it."""
    broker, index = (env[name] for name in _ADDRESSES)
    return [
        f"broker  {broker}, for any Kafka client",
        f"index   {index}",
        "In another terminal, for commands and processes of nextwatch:",
        f'  eval "$(nextwatch stack env -f {shlex.quote(str(env_file))})"',
        "which sets, among others:",
        *(f"  export {name}={shlex.quote(env[name])}" for name in _ADDRESSES),
    ]


def write(env_file: Path, env: Mapping[str, str]) -> None:
    """Put *env* into *env_file*, whole or not at all."""
    env_file.parent.mkdir(parents=True, exist_ok=True)
    draft = env_file.with_name(env_file.name + ".new")
    draft.write_text("".join(f"{name}={value}\n" for name, value in sorted(env.items())))
    draft.rename(env_file)


def exports(env_file: Path) -> list[str]:
    """Return the lines by which a shell takes over the settings in *env_file*.

    Raises:
        StackError: there is no such file, so no stack is up.
    """
    if not env_file.exists():
        raise StackError(f"no stack is up ({env_file} is missing): start one by nextwatch stack up")
    pairs = (line.partition("=") for line in env_file.read_text().splitlines() if line)
    return [f"export {name}={shlex.quote(value)}" for name, _, value in pairs]
