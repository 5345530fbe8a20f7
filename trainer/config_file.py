"""Read what the file of NEXTWATCH_TRAINER_CONFIG changes of the model and of the ranker.

The file is TOML. Its table ``[model]`` has fields of `models.training.config.TowerConfig`, its
table ``[ranker]`` those of `models.ranking.config.RankerConfig`; what it does not name stays as the
model or the ranker has it. `documented_fields` lists them with their defaults, for ``--help``.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

import msgspec

from contract.errors import ContractError
from models.ranking.config import RankerConfig
from models.training.config import TowerConfig

VARIABLE = "NEXTWATCH_TRAINER_CONFIG"
OF_SETTINGS = frozenset({"model", "name", "completion", "ranker", "max_videos", "id_expiry_ms"})
"""Fields that other settings decide, or that serving has to know beforehand."""
MAY_CHANGE = frozenset({"completion", "max_videos", "id_expiry_ms"})
"""Fields that a resume may change: no learned number has their shape."""

_Config = TypeVar("_Config", TowerConfig, RankerConfig)


class Configuration(NamedTuple):
    """What learns, and how."""

    model: TowerConfig
    ranker: RankerConfig

    def recorded(self) -> dict[str, Any]:
        """Return the fields that a resume must not change, by table: what a checkpoint keeps."""
        kept = {
            table: {
                name: value
                for name, value in dataclasses.asdict(config).items()
                if name not in MAY_CHANGE
            }
            for table, config in self._asdict().items()
        }
        told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(kept))
        return told


def configured(path: Path | None, model: TowerConfig, ranker: RankerConfig) -> Configuration:
    """Return *model* and *ranker* with what the file at *path* changes; as they are without one.

    Raises:
        ContractError: the file cannot be read, is not TOML, or names or sets what there is not.
    """
    if path is None:
        return Configuration(model, ranker)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ContractError(f"{VARIABLE}: {path} cannot be read: {error}") from error
    if unknown := sorted(tables.keys() - {"model", "ranker"}):
        raise ContractError(f"{VARIABLE}: unknown tables {unknown}; known: model, ranker")
    return Configuration(
        _changed(model, tables.get("model", {}), "model"),
        _changed(ranker, tables.get("ranker", {}), "ranker"),
    )


def documented_fields() -> str:
    """Return the fields of both tables with their defaults, as TOML."""
    lines: list[str] = []
    for table, config in (("model", TowerConfig()), ("ranker", RankerConfig())):
        lines.append(f"[{table}]")
        for name in sorted(_fields(config)):
            value = msgspec.to_builtins(getattr(config, name))
            told = "# unset: no bound" if value is None else msgspec.json.encode(value).decode()
            lines.append(f"{name} = {told}")
    return "\n".join(lines)


def check_same(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a checkpoint was learned with the configuration of *now*.

    A checkpoint that recorded none, as one of before, is taken. A field that one side alone has is
    one that this version added or dropped.

    Raises:
        ContractError: a field differs; the error names it with both values and the remedy.
    """
    differing = [
        f"{table}.{name} was {old!r} and is {now[table][name]!r}"
        for table, fields in saved.items()
        for name, old in fields.items()
        if name in now.get(table, {}) and now[table][name] != old
    ]
    if differing:
        raise ContractError(
            f"the checkpoint was learned with another configuration: {'; '.join(differing)}; set "
            f"it back (in the file of {VARIABLE}, or the setting), or move the directory of the "
            "checkpoints away to start over"
        )


def _fields(config: TowerConfig | RankerConfig) -> set[str]:
    return {field.name for field in dataclasses.fields(config)} - OF_SETTINGS


def _changed(config: _Config, given: Any, table: str) -> _Config:
    if not isinstance(given, dict):
        raise ContractError(f"{VARIABLE}: {table} must be a table")
    known = _fields(config)
    if unknown := sorted(given.keys() - known):
        raise ContractError(
            f"{VARIABLE}: unknown in [{table}]: {', '.join(unknown)}; "
            f"known: {', '.join(sorted(known))}"
        )
    kinds = get_type_hints(type(config))
    try:
        values = {name: msgspec.convert(value, kinds[name]) for name, value in given.items()}
        return dataclasses.replace(config, **values)
    except (msgspec.ValidationError, ValueError) as error:
        names = ", ".join(sorted(given))
        raise ContractError(f"{VARIABLE}: [{table}] {names}: {error}") from error
