"""List the jars of Apache Kafka, each pinned by version and sha256 (``artifacts.txt``).

The list is flat and complete. Nothing is resolved at run time, so no other version of a
library can get in by way of a dependency.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

KAFKA_VERSION = "4.1.1"
_PINS = Path(__file__).with_name("artifacts.txt")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Artifact:
    """One jar, as Maven names it, with its size in bytes and its checksum."""

    group: str
    name: str
    version: str
    num_bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """Return the name of the jar in the cache."""
        return f"{self.name}-{self.version}.jar"

    def is_at(self, path: Path) -> bool:
        """Return whether the file at *path* is this jar, byte for byte."""
        try:
            return path.stat().st_size == self.num_bytes and sha256_of(path) == self.sha256
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return False


@cache
def pinned() -> tuple[Artifact, ...]:
    """Return every jar that the broker needs."""
    lines = _PINS.read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line and not line.startswith("#")]
    return tuple(
        Artifact(group, name, version, int(num_bytes), sha256)
        for group, name, version, num_bytes, sha256 in rows
    )


def pins_digest() -> str:
    """Return a short name for exactly this list, for the folder that holds its jars."""
    return sha256_of(_PINS)[:8]


def sha256_of(path: Path) -> str:
    """Return the checksum of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
