"""What an engine has: the tests leave as much of it as they found."""

import subprocess
from dataclasses import dataclass
from typing import Self

LISTS = {
    "containers": ("ps", "--all", "--quiet", "--no-trunc"),
    "volumes": ("volume", "ls", "--quiet"),
    "networks": ("network", "ls", "--quiet", "--no-trunc"),
    "images": ("images", "--all", "--quiet", "--no-trunc"),
    "tags": ("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "dangling=false"),
}


@dataclass(frozen=True)
class Inventory:
    """The names of everything of each kind."""

    found: dict[str, frozenset[str]]

    @classmethod
    def now(cls) -> Self:
        """Return what is there now."""
        return cls({kind: frozenset(_docker(*asked).split()) for kind, asked in LISTS.items()})

    def since(self, before: Self) -> dict[str, list[str]]:
        """Return what is here and was not there *before*."""
        return {kind: sorted(names - before.found[kind]) for kind, names in self.found.items()}


def remove_since(before: Inventory) -> list[str]:
    """Remove what was not there *before*; return what the tests should have removed themselves.

    Images are removed here alone, since all tests share them.
    """
    new = Inventory.now().since(before)
    told = [
        f"{kind}: {name}" for kind in ("containers", "volumes", "networks") for name in new[kind]
    ]
    if new["containers"]:
        _docker("rm", "--force", "--volumes", *new["containers"])
    for kind in ("volume", "network"):
        if new[f"{kind}s"]:
            _docker(kind, "rm", *new[f"{kind}s"])
    for name in new["tags"]:
        _docker("image", "rm", name)
    while images := Inventory.now().since(before)["images"]:
        for image in images:  # parents go with their last child
            _docker("image", "rm", "--force", image)
        if Inventory.now().since(before)["images"] == images:
            return [*told, *(f"images: {image}" for image in images)]
    return told


def _docker(*arguments: str) -> str:
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, check=False
    ).stdout
