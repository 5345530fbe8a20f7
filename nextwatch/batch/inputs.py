"""Open what a batch job reads: a broker, or a log, and a bundle. The composition root of the jobs.

Nothing else of `nextwatch.batch` reads the environment.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from contract.errors import DatasetError, DecodeError
from contract.process.settings import KafkaSettings, ProcessSettings, load
from contract.wire.decoding import decode, tombstone_id
from contract.wire.events import VideoUpload
from contract.wire.topics import VIDEO_UPLOADS
from models.features.examples import CompletionRule
from models.history.settings import WindowSettings
from nextwatch.acls import batch_needs
from nextwatch.batch import served
from nextwatch.batch.served import Served
from nextwatch.batch.users import LoggedUsers, StoredUsers, Users, filled
from nextwatch.batch.watched import Watched, WatchedInLog, WatchedInWindows
from nextwatch.datasets.log import ExposureLog
from nextwatch.operate.scan import Scan
from nextwatch.operate.session import scan_of
from nextwatch.sources.run import LOGS
from streams.settings import StreamsSettings


@dataclass(frozen=True)
class Inputs:
    """What is read: *data* names a log, and *bundle* a bundle; without them the broker has both."""

    data: str | None = None
    bundle: str | None = None
    bootstrap_servers: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @cached_property
    def kafka(self) -> KafkaSettings:
        """The settings of the broker: the environment, and what overrides it."""
        settings = load(KafkaSettings, self.environ)
        if self.bootstrap_servers is None:
            return settings
        return settings.model_copy(update={"bootstrap_servers": self.bootstrap_servers})

    @cached_property
    def log(self) -> ExposureLog | None:
        """The log; None where the broker is read.

        Raises:
            DatasetError: there is no such log, or its files are missing or damaged.
        """
        if self.data is None:
            return None
        source, _, directory = self.data.partition(":")
        if source not in LOGS or not directory:
            known = ", ".join(f"{name}:DIR" for name in LOGS)
            raise DatasetError(f"unknown data {self.data!r}; known: {known}")
        try:
            return LOGS[source](Path(directory))
        except ImportError as error:
            raise DatasetError(
                f"{source} needs {error.name}: pip install 'nextwatch[replay]'"
            ) from None

    @contextmanager
    def scan(self) -> Iterator[Scan]:
        """Yield a scan of the broker, which shows how many records it has read.

        Raises:
            BrokerUnavailable: no broker answers.
            ContractError: a topic or a right is missing.
        """
        with scan_of(self.kafka, batch_needs(self.kafka.layout)) as scan:
            yield scan

    @contextmanager
    def users(self, work_dir: Path | None = None) -> Iterator[Users]:
        """Yield the windows of all users; *work_dir* keeps those of the changelog."""
        if self.log is not None:
            yield LoggedUsers(self.log, load(WindowSettings, self.environ).policy)
            return
        with TemporaryDirectory(prefix="nextwatch-batch-") as temporary:
            stored = self._stored(work_dir or Path(temporary))
            try:
                yield stored
            finally:
                stored.close()

    @contextmanager
    def watched(self, rule: CompletionRule) -> Iterator[Watched]:
        """Yield the watches of all users."""
        if self.log is not None:
            yield WatchedInLog(self.log, rule)
            return
        with self.users() as users:
            yield WatchedInWindows(users, rule)

    def served(self) -> Served:
        """Return the bundle named, or else what is in service.

        Raises:
            DatasetError: a log is read, and no bundle is named.
            ContractError: there is no bundle, or it is damaged.
        """
        settings = load(StreamsSettings, self.environ)
        if self.bundle is not None:
            return served.from_bundle(_url(self.bundle), settings)
        if self.log is not None:
            raise DatasetError("a log has no bundle: name one with --bundle DIR")
        with self.scan():  # the broker answers, and the rights are there
            pass
        bundle_url = load(ProcessSettings, self.environ).bundle_url
        return served.from_broker(self.kafka, bundle_url, settings)

    def categories(self) -> dict[str, str]:
        """Return the category of each video that is up and has one."""
        if self.log is not None:
            return {one.video_id: one.category for one in self.log.uploads if one.category}
        found: dict[str, str] = {}
        with self.scan() as scan:
            for record in scan.read([VIDEO_UPLOADS.name]):
                try:
                    if record.value is None:
                        found.pop(tombstone_id(record.key, record.headers), None)
                        continue
                    upload = decode(
                        VIDEO_UPLOADS, VideoUpload, record.key, record.value, record.headers
                    )
                except DecodeError:
                    continue
                found.pop(upload.video_id, None)
                if upload.category:
                    found[upload.video_id] = upload.category
        return found

    def _stored(self, directory: Path) -> StoredUsers:
        with self.scan() as scan:
            return filled(directory, lambda: scan)


def _url(bundle: str) -> str:
    """Return the URL of a bundle that is named by its directory or by a URL."""
    return bundle if "://" in bundle else Path(bundle).resolve().as_uri()
