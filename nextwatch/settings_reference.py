"""Write the page of all settings, ``docs/settings.md``.

``python -m nextwatch.settings_reference > docs/settings.md`` writes it; a test keeps it current.
"""

import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any

from pydantic.fields import FieldInfo

from contract.process.settings import (
    KafkaSettings,
    ProcessSettings,
    QdrantSettings,
    Settings,
    variables,
)
from index_sync.settings import IndexSettings
from models.history.settings import WindowSettings
from nextwatch.console.settings import ConsoleSettings
from nextwatch.gateway.settings import GatewaySettings
from streams.settings import StreamsSettings
from trainer.settings import TrainerSettings

GROUPS: dict[type[Settings], str] = {
    KafkaSettings: "The broker (every process, and the command line)",
    QdrantSettings: "The vector index (streams, index_sync, gateway)",
    ProcessSettings: "The process (streams, trainer, index_sync, gateway)",
    WindowSettings: "History windows (streams and trainer, which must agree)",
    StreamsSettings: "streams",
    TrainerSettings: "trainer",
    IndexSettings: "index_sync",
    GatewaySettings: "The HTTP gateway (`nextwatch gateway`)",
    ConsoleSettings: "The console (`nextwatch console`)",
}

_HEAD = """# Settings

Settings come from the environment and are checked before anything starts: a variable that
starts with `NEXTWATCH_` and is not listed here stops the start, and so does a value out of
bounds. Passwords and keys are never printed. `nextwatch settings` prints this page.
"""


def render() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD]
    for group, title in GROUPS.items():
        doc = (group.__doc__ or "").splitlines()[0]
        parts += [f"## {title}\n", f"{doc}\n", "| variable | default | |", "| --- | --- | --- |"]
        parts += [*_rows(group), ""]
    return "\n".join(parts)


def _rows(group: type[Settings]) -> Iterator[str]:
    for name, variable in variables(group).items():
        field = group.model_fields[name]
        notes = "; ".join(filter(None, [field.description, _bounds(field)]))
        yield f"| `{variable}` | {_default(field)} | {notes} |"


def _default(field: FieldInfo) -> str:
    value = field.default.value if isinstance(field.default, Enum) else field.default
    return "" if value is None or value == "" else f"`{value}`"


def _bounds(field: FieldInfo) -> str:
    low = next((m.ge for m in field.metadata if hasattr(m, "ge")), None)
    high = next((m.le for m in field.metadata if hasattr(m, "le")), None)
    words = list(_words(field.annotation))
    if words:
        return " or ".join(f"`{word}`" for word in words)
    above = next((m.gt for m in field.metadata if hasattr(m, "gt")), None)
    if low is not None and high is not None:
        return f"from {low:,} to {high:,}"
    if above is not None:
        return f"more than {above:,}" + (f", at most {high:,}" if high is not None else "")
    return f"at least {low:,}" if low is not None else ""


def _words(annotation: Any) -> Iterator[str]:
    """Yield the words of a Literal, also where it may be absent."""
    for choice in getattr(annotation, "__args__", ()):
        yield from [choice] if isinstance(choice, str) else _words(choice)


if __name__ == "__main__":
    sys.stdout.write(render())
