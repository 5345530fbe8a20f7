"""Keep the embedded stack up until Ctrl-C, with its addresses in a file.

The file holds one ``NAME=value`` a line. It is there while the stack is, so that another
terminal finds the stack by ``eval "$(nextwatch stack env)"``. A lock beside it tells whether
that stack still lives: one that was killed leaves the file, and no living one loses its own.
"""

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from errno import EISDIR
from os import strerror
from pathlib import Path
from threading import Event

from contract.errors import ContractError, StackError, StorageFull
from contract.process import lock
from contract.process.exit_codes import is_storage_full
from nextwatch.embedded.stack import EmbeddedStack

_ADDRESSES = ("NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS", "NEXTWATCH_QDRANT_URL")
_CHECK_EVERY_S = 0.1


def run(
    stack: EmbeddedStack, env_file: Path, *, is_over: Event, tell: Callable[[str], None]
) -> None:
    """Start *stack*, keep it up until *is_over*, and stop it; *tell* prints lines.

    Raises:
        StackError: it did not start, or did not stay up, or *env_file* is of another stack.
        ContractError, StorageFull: *env_file* cannot be written.
    """
    try:
        with claimed(env_file):
            stack.start()
            write(env_file, stack.env)
            for line in banner(stack.env, env_file):
                tell(line)
            for name, url in stack.status_urls.items():
                tell(f"status  {url}/metrics, /healthz and /readyz of {name}")
            tell(f"files   {stack.directory}; Ctrl-C stops the stack")
            while not is_over.wait(_CHECK_EVERY_S):
                stack.check()
    finally:
        stack.stop()


@contextmanager
def claimed(env_file: Path) -> Iterator[None]:
    """Keep *env_file* for this process, and remove it at the end of the block.

    Raises:
        StackError: another stack that is up tells its addresses in it.
        ContractError, StorageFull: it cannot be written.
    """
    path = _lock_path(env_file)
    try:
        if env_file.is_dir():
            raise IsADirectoryError(EISDIR, strerror(EISDIR))
        env_file.parent.mkdir(parents=True, exist_ok=True)
        held = lock.hold(path)
    except OSError as error:
        if is_storage_full(error):
            raise StorageFull(f"{env_file}: {error.strerror}: make room there") from error
        raise ContractError(
            f"{env_file} cannot be written ({error.strerror}): name another file by --env-file"
        ) from error
    if held is None:
        raise StackError(
            f"a stack is up already, and {env_file} tells where: stop it, or name another file"
            " for this one: nextwatch stack up --env-file FILE"
        )
    try:
        yield
    finally:
        env_file.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        held.close()


def banner(env: Mapping[str, str], env_file: Path) -> list[str]:
    """Return how to use a stack: its addresses, and the settings by which processes find it."""
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
    draft = env_file.with_name(env_file.name + ".new")
    draft.write_text("".join(f"{name}={value}\n" for name, value in sorted(env.items())))
    draft.rename(env_file)


def exports(env_file: Path) -> list[str]:
    """Return the lines by which a shell takes over the settings in *env_file*.

    Raises:
        StackError: there is no such file, or its stack is gone.
    """
    if not env_file.exists():
        raise StackError(f"no stack is up ({env_file} is missing): start one by nextwatch stack up")
    if not lock.is_held(_lock_path(env_file)):
        raise StackError(
            f"{env_file} is left over from a stack that is gone: start one by nextwatch stack up"
        )
    pairs = (line.partition("=") for line in env_file.read_text().splitlines() if line)
    return [f"export {name}={shlex.quote(value)}" for name, _, value in pairs]


def _lock_path(env_file: Path) -> Path:
    return env_file.with_name(env_file.name + ".lock")
