"""The contestants, and how each is started on its own stack with the same windows."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import changelogs
from benchmarks.peers.changelogs import PeerChangelog
from benchmarks.peers.environment import quix_python
from benchmarks.peers.workers import INDEX_PATIENCE_MS
from benchmarks.serving import rig as rigs
from benchmarks.serving.audience import ServingAudience
from benchmarks.serving.rig import NUM_PARTITIONS, Rig
from nextwatch.embedded.process.plans import inherited
from nextwatch.embedded.stack import EmbeddedStack


@dataclass(frozen=True)
class Contestant:
    """One system. The project's own has no *module*: its worker is the embedded stack's."""

    name: str
    title: str
    changelog: PeerChangelog
    module: str = ""
    is_apart: bool = False
    arguments: tuple[str, ...] = ()

    def python(self, environments: Path) -> str:
        """Return the interpreter to run it with; makes its environment if it has its own."""
        return str(quix_python(environments)) if self.is_apart else sys.executable


NEXTWATCH = Contestant("nextwatch", "Nextwatch", changelogs.NEXTWATCH)
CONTESTANTS = (
    NEXTWATCH,
    Contestant(
        "quix", "Quix Streams 3.28", changelogs.QUIX, "benchmarks.peers.peer_quix", is_apart=True
    ),
    Contestant("faust", "Faust 0.15", changelogs.FAUST, "benchmarks.peers.peer_faust"),
    Contestant(
        "faust-threaded",
        "Faust 0.15, in a thread",
        changelogs.FAUST,
        "benchmarks.peers.peer_faust",
        arguments=("--threaded",),
    ),
)


_PATIENT = {"NEXTWATCH_STREAMS_INDEX_PATIENCE_MS": str(INDEX_PATIENCE_MS)}
"""Nextwatch would rather answer without the index than late; the peers wait, so it must, too."""


@dataclass(frozen=True)
class Start:
    """What a contestant starts from: its interpreter, and its state with everybody's windows."""

    contestant: Contestant
    python: str
    state: Path

    @classmethod
    def of(
        cls, contestant: Contestant, *, environments: Path, seeds: Path, directory: Path
    ) -> "Start":
        """Write the windows in *seeds* to new stores of *contestant* below *directory*."""
        state = directory / contestant.name
        python = contestant.python(environments)
        argv = [python, "-m", contestant.module, "fill"]
        argv += ["--state", str(state), "--seeds", str(seeds)]
        partitions = {"NEXTWATCH_KAFKA_USER_PARTITIONS": str(NUM_PARTITIONS)}
        subprocess.run(argv, env=inherited(os.environ) | partitions, check=True)  # noqa: S603
        return cls(contestant, python, state)

    @contextmanager
    def running(self, audience: ServingAudience, root: Path, *, num_workers: int) -> Iterator[Rig]:
        """Run *num_workers* of the contestant on a new stack."""
        if not self.contestant.module:
            with rigs.running(
                audience, root=root, windows=self.state, num_workers=num_workers, env=_PATIENT
            ) as rig:
                yield rig
            return
        names = ("broker", "index")
        stack = EmbeddedStack(os.environ, processes=names, is_supervised=False)
        rig = Rig(stack, audience, root)
        audience.catalogue.copy_collection(stack.directory / "index")
        try:
            stack.start_storage()
            for number in range(num_workers):
                state = stack.directory / f"worker{number}"
                shutil.copytree(self.state, state)
                argv = self._argv(audience, state)
                rig.workers.append(stack.add_process(f"worker{number}", argv))
            yield rig
        finally:
            rig.close()
            stack.stop()

    def _argv(self, audience: ServingAudience, state: Path) -> list[str]:
        catalogue = audience.catalogue
        argv = [self.python, "-m", self.contestant.module, "run", "--state", str(state)]
        argv += [*self.contestant.arguments, "--bundle-url", catalogue.bundle_url]
        return [*argv, "--manifest-sha256", catalogue.manifest_sha256]
