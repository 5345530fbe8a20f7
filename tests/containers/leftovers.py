"""Find the containers, volumes, networks and images of the project on a Docker engine.

Ours is what Compose made for a project of the tests, what testcontainers made, and images that
bear a tag of the tests or the stand-ins, or the label of our Dockerfile. Others may use the
engine at the same time; what is theirs is not looked at.
"""

import json
import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

PROJECTS = "nextwatch-test-"
STAGE = "dev.nextwatch.stage"
_PROJECT = "com.docker.compose.project"
_LISTS = {
    "container": ("ps", "--all", "--quiet", "--no-trunc"),
    "volume": ("volume", "ls", "--quiet"),
    "network": ("network", "ls", "--quiet", "--no-trunc"),
    "image": ("images", "--all", "--quiet", "--no-trunc", "--filter", f"label={STAGE}"),
}
_FORCED = {"container": ("--force", "--volumes")}
_NAMELESS = re.compile("[0-9a-f]{64}")
_TAGS = ("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")


@dataclass(frozen=True)
class Inventory:
    """The names of everything of each kind, and the image of each tag."""

    found: dict[str, frozenset[str]]
    tags: dict[str, str]

    @classmethod
    def now(cls) -> Self:
        """Return what is there now."""
        found = {kind: frozenset(_docker(*asked).split()) for kind, asked in _LISTS.items()}
        return cls(found, dict(line.split() for line in _docker(*_TAGS).splitlines()))

    def since(self, before: Self, kind: str) -> list[str]:
        """Return what of *kind* is here and was not there *before*."""
        return sorted(self.found[kind] - before.found[kind])


def remove_since(before: Inventory, *, stand_ins: Collection[str] = ()) -> list[str]:
    """Remove everything that was not there *before*; return what the tests should have removed.

    Images are removed here alone, since all tests share them, and a tag of *stand_ins* names
    what it named before.
    """
    told = _remove_forgotten(before)
    for tag, image in Inventory.now().tags.items():
        if tag not in before.tags and (tag.startswith(PROJECTS) or tag in stand_ins):
            _docker("image", "rm", tag)
        elif tag in stand_ins and image != before.tags[tag]:  # it was built anew
            _docker("tag", before.tags[tag], tag)
            _docker("image", "rm", image)
    return told + _remove_stages(before)


def _remove_forgotten(before: Inventory) -> list[str]:
    now, told = Inventory.now(), []
    for kind in ("container", "volume", "network"):
        for name in now.since(before, kind):
            if _is_ours(kind, name):
                told.append(f"{kind} {name}")
                _docker(kind, "rm", *_FORCED.get(kind, ()), name)
            elif _is_nameless_and_unused(kind, name):  # perhaps ours; somebody else's is left alone
                told.append(f"{kind} {name}")
    return told


def _remove_stages(before: Inventory) -> list[str]:
    """Remove images of the build's stages; their parents go with their last child."""
    images: list[str] = []
    while (left := Inventory.now().since(before, "image")) != images:
        images = left
        for image in images:
            _docker("image", "rm", image)
    return [f"image {image}" for image in images]


def _is_ours(kind: str, name: str) -> bool:
    described = json.loads(_docker(kind, "inspect", name) or "[{}]")[0]
    labels = described.get("Config", described).get("Labels") or {}
    return labels.get(_PROJECT, "").startswith(PROJECTS) or "org.testcontainers" in labels


def _is_nameless_and_unused(kind: str, name: str) -> bool:
    users = _docker("ps", "--all", "--quiet", "--filter", f"volume={name}")
    return kind == "volume" and bool(_NAMELESS.fullmatch(name)) and not users


def _docker(*arguments: str) -> str:
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=False
    ).stdout
