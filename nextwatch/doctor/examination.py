"""Run all checks of `nextwatch doctor` in a fixed order; the composition root of the command.

What needs the broker or the index is left out, with one line, when that part was not reached: a
broker that is down costs its patience once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import TypeVar

import fsspec
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr

from contract.bundle_log import BundleLog
from contract.cluster.cluster import Cluster, FoundTopic
from contract.cluster.preflight import partition_counts
from contract.errors import ContractError
from contract.kafka.client import client_config
from contract.points import collection_name
from contract.process.clock import Clock
from contract.process.settings import (
    KafkaSettings,
    ProcessSettings,
    QdrantSettings,
    Settings,
    load,
)
from contract.wire.topics import MODEL_BUNDLES, VIDEO_UPLOADS
from models.bundle.bundle_store import check_url
from nextwatch.doctor import catalogue, disk, topics, versions
from nextwatch.doctor.diagnosis import Check, Diagnosis, PartHealth, examine
from nextwatch.doctor.vector_index import ExaminedIndex
from nextwatch.operate.models import log_of
from nextwatch.operate.scan import Scan
from nextwatch.settings_reference import GROUPS
from nextwatch.topics.topics import reconcile, wanted_topics
from streams.settings import StreamsSettings
from trainer.settings import TrainerSettings

S = TypeVar("S", bound=Settings)

CHECKS = ("settings", "connections", "topics", "partitions", "versions", "clock", "disk", "index")
"""The checks, in the order of the report."""
_ATTEMPTS, _AGAIN_S = 3, 1.0
_BROKER, _INDEX = "the broker", "the vector index"


class Examination:
    """One look at the deployment that *environ* names."""

    def __init__(
        self, environ: Mapping[str, str], *, clock: Clock, patience_s: float, check_s: float
    ) -> None:
        """Wait *patience_s* for each part, and *check_s* for each check, at most."""
        self._environ = environ
        self._clock = clock
        self._patience_s = patience_s
        self._check_s = check_s
        self._kafka = self._loaded(KafkaSettings)
        self._qdrant = self._loaded(QdrantSettings)
        self._process = self._loaded(ProcessSettings)
        self._is_broker_there = self._is_index_there = False
        self._found: dict[str, FoundTopic] = {}
        self._bundles: BundleLog | None = None

    def run(self, on_check: Callable[[str], object] = lambda _name: None) -> list[Diagnosis]:
        """Return all diagnoses; *on_check* is called with each check before it begins."""
        checks: dict[str, list[tuple[str, Check]]] = {
            "settings": [("environment", self._check_settings)],
            "connections": [
                ("Kafka", self._reach_broker),
                ("Qdrant", self._reach_index),
                ("bundle store", self._reach_store),
            ],
            "topics": [("contract", self._check_topics)],
            "partitions": [("counts", self._check_partitions)],
            "versions": [
                ("Python", self._check_local_versions),
                ("services", self._check_remote_versions),
            ],
            "clock": [("newest record", self._check_clock), ("index", self._check_index_clock)],
            "disk": [("directories", self._check_disk)],
            "index": [("collection", self._check_index)],
        }
        diagnoses: list[Diagnosis] = []
        secrets = list(self._secrets())
        for name in CHECKS:
            on_check(name)
            for what, check in checks[name]:
                diagnoses += examine(name, what, check, timeout_s=self._check_s, secrets=secrets)
        return diagnoses

    def _loaded(self, group: type[S]) -> S | None:
        try:
            return load(group, self._environ)
        except ContractError:
            return None

    def _secrets(self) -> Iterator[str]:
        for group in (self._kafka, self._qdrant, self._process):
            for value in vars(group).values() if group else ():
                if isinstance(value, SecretStr):
                    yield value.get_secret_value()

    def _check_settings(self) -> Iterator[Diagnosis]:
        wrong = set()
        for group in GROUPS:
            try:
                load(group, self._environ)
            except ContractError as error:
                wrong.add(str(error))
        for text in sorted(wrong):
            yield _of(
                "settings", "environment", PartHealth.WRONG, text, "`nextwatch settings` lists them"
            )
        if not wrong:
            yield _of(
                "settings", "environment", PartHealth.OK, "all are known and within their bounds"
            )

    def _reach_broker(self) -> Iterator[Diagnosis]:
        if self._kafka is None:
            yield _unset("connections", "Kafka", "NEXTWATCH_KAFKA_*")
            return
        counts = partition_counts(self._kafka, patience_s=self._patience_s)
        self._is_broker_there = True
        told = f"{self._kafka.bootstrap_servers} answers, {len(counts)} topics"
        yield _of("connections", "Kafka", PartHealth.OK, told)

    def _reach_index(self) -> Iterator[Diagnosis]:
        if self._qdrant is None:
            yield _unset("connections", "Qdrant", "NEXTWATCH_QDRANT_*")
            return
        with closing(ExaminedIndex(self._qdrant, patience_s=self._patience_s)) as index:
            num_collections = len(index.collections())
        self._is_index_there = True
        told = f"{self._qdrant.url} answers, {num_collections} collections"
        yield _of("connections", "Qdrant", PartHealth.OK, told)
        if self._qdrant.sends_key_in_clear:
            told = "the API key is sent unencrypted: whoever can listen can use it"
            yield _of("connections", "API key", PartHealth.NOTED, told, "name an https:// URL")

    def _reach_store(self) -> Iterator[Diagnosis]:
        if self._process is None:
            yield _unset("connections", "bundle store", "NEXTWATCH_PROCESS_*")
            return
        url = self._process.bundle_url
        check_url(url)
        remedy = "start it, and see that NEXTWATCH_PROCESS_BUNDLE_URL names it"
        try:
            filesystem, path = fsspec.core.url_to_fs(url)
            filesystem.invalidate_cache()
            num_entries = len(filesystem.ls(path, detail=False))
        except FileNotFoundError:
            told = f"{url}: nothing is there yet; the trainer makes it with its first bundle"
            yield _of("connections", "bundle store", PartHealth.NOTED, told, "start the trainer")
        except Exception as error:  # noqa: BLE001 - each store has exceptions of its own
            told = f"{url}: {type(error).__name__}: {error}"
            yield _of("connections", "bundle store", PartHealth.WRONG, told, remedy)
        else:
            told = f"{url} answers, {num_entries} entries"
            yield _of("connections", "bundle store", PartHealth.OK, told)

    def _check_topics(self) -> Iterable[Diagnosis]:
        if self._kafka is None or not self._is_broker_there:
            return [_unreached("topics", _BROKER)]
        findings = reconcile(self._kafka, is_check=True, patience_s=self._patience_s)
        return topics.topic_diagnoses(findings)

    def _check_partitions(self) -> Iterator[Diagnosis]:
        if self._kafka is None or not self._is_broker_there:
            yield _unreached("partitions", _BROKER)
            return
        names = [topic.name for topic in wanted_topics(self._kafka.layout)]
        self._found = self._cluster(self._kafka).topics(names)
        yield from topics.partition_diagnoses(self._kafka.layout, self._found)

    def _check_local_versions(self) -> Iterator[Diagnosis]:
        yield versions.python_diagnosis()
        yield from versions.packages()

    def _check_remote_versions(self) -> Iterator[Diagnosis]:
        if self._kafka is None or not self._is_broker_there:
            yield _unreached("versions", _BROKER)
        else:
            yield versions.broker_diagnosis(self._cluster(self._kafka).broker_settings())
        if self._qdrant is None or not self._is_index_there:
            yield _unreached("versions", _INDEX)
        else:
            with closing(ExaminedIndex(self._qdrant, patience_s=self._patience_s)) as index:
                yield versions.index_diagnosis(index.version(), version("qdrant-client"))
        log = self._bundle_log()
        if log is not None and self._process is not None:
            in_service = log.of_generation(log.in_service)
            yield from versions.bundle_diagnoses(self._process.bundle_url, in_service)

    def _check_clock(self) -> Iterable[Diagnosis]:
        if self._kafka is None or not self._is_broker_there:
            return [_unreached("clock", _BROKER)]
        admin, found = self._admin(self._kafka), self._found
        return topics.clocks(
            self._kafka.layout,
            found,
            lambda: topics.newest_times(admin, found, within_s=self._patience_s),
            self._clock,
        )

    def _check_index_clock(self) -> Iterator[Diagnosis]:
        if self._qdrant is None or not self._is_index_there:
            yield _unreached("clock", _INDEX)
            return
        with closing(ExaminedIndex(self._qdrant, patience_s=self._patience_s)) as index:
            yield topics.index_clock_diagnosis(index.date_ms(), self._clock())

    def _check_disk(self) -> Iterable[Diagnosis]:
        places: dict[str, Path] = {}
        if streams := self._loaded(StreamsSettings):
            places["NEXTWATCH_STREAMS_STATE_DIR"] = streams.state_dir
        if trainer := self._loaded(TrainerSettings):
            places["NEXTWATCH_TRAINER_CHECKPOINT_DIR"] = trainer.checkpoint_dir
        if self._process and (bundles := disk.local_path(self._process.bundle_url)):
            places["NEXTWATCH_PROCESS_BUNDLE_URL"] = bundles
        return disk.disk_diagnoses(places)

    def _check_index(self) -> Iterator[Diagnosis]:
        if self._kafka is None or not self._is_broker_there:
            yield _unreached("index", _BROKER)
            return
        if self._qdrant is None or not self._is_index_there:
            yield _unreached("index", _INDEX)
            return
        log = self._bundle_log()
        if log is None or log.in_service is None:
            told = "no generation is in service, so there is no collection to compare"
            yield _of("index", "collection", PartHealth.NOT_CHECKED, told)
            return
        name = collection_name(self._qdrant.prefix(self._kafka), log.in_service)
        with closing(ExaminedIndex(self._qdrant, patience_s=self._patience_s)) as index:
            if name not in index.collections():
                yield catalogue.no_collection(name)
                return
            videos = catalogue.LiveVideos()
            videos.apply_records(self._scan(self._kafka).read([VIDEO_UPLOADS.name]))
            rng = Random(self._clock())  # noqa: S311 - no secret is drawn
            sampled = catalogue.sample(videos.live, rng) + catalogue.sample(videos.taken_down, rng)
            yield from self._compared(index, videos, name, sampled)

    @staticmethod
    def _compared(
        index: ExaminedIndex, videos: catalogue.LiveVideos, name: str, sampled: list[str]
    ) -> list[Diagnosis]:
        """Compare again where something is missing: what was just uploaded takes a second."""
        compared: list[Diagnosis] = []
        for attempt in range(_ATTEMPTS):
            if attempt:
                sleep(_AGAIN_S)
            points = index.points(name, sampled) if sampled else set()
            num_points = index.count(name)
            compared = list(catalogue.index_diagnoses(videos, name, num_points, sampled, points))
            if not any(one.health is PartHealth.WRONG for one in compared):
                break
        return compared

    def _bundle_log(self) -> BundleLog | None:
        """Return what is announced of bundles; None while the broker is not reached."""
        if self._bundles is None and self._kafka is not None and self._is_broker_there:
            self._bundles = log_of(self._scan(self._kafka).read([MODEL_BUNDLES.name]))
        return self._bundles

    def _scan(self, kafka: KafkaSettings) -> Scan:
        return Scan(kafka, monotonic=monotonic, patience_s=self._patience_s)

    def _cluster(self, kafka: KafkaSettings) -> Cluster:
        return Cluster(self._admin(kafka), answer_s=self._patience_s)

    @staticmethod
    def _admin(kafka: KafkaSettings) -> AdminClient:
        return AdminClient(client_config(kafka) | {"log_level": 0})


def _of(check: str, what: str, health: PartHealth, found: str, remedy: str = "") -> Diagnosis:
    return Diagnosis(check=check, what=what, health=health, found=found, remedy=remedy)


def _unset(check: str, what: str, variables: str) -> Diagnosis:
    return _of(check, what, PartHealth.NOT_CHECKED, f"{variables} are wrong: mend them first")


def _unreached(check: str, part: str) -> Diagnosis:
    return _of(check, part, PartHealth.NOT_CHECKED, "was not reached: see connections")
