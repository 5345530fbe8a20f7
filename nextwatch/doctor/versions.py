"""Check the versions of Python, packages, broker, index and bundle against this code."""

import re
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata

import msgspec

from contract.errors import StoreUnavailable
from contract.version import VERSION
from contract.wire.events import BundleAnnouncement
from models.bundle.bundle import FORMAT_VERSION
from models.bundle.bundle_store import MANIFEST, StoredBundle
from models.features import features, ranking_features
from models.serving.ranker_tables import CARD
from nextwatch.doctor.diagnosis import Diagnosis, PartHealth

PACKAGES = (
    *("confluent-kafka", "faust-streaming", "aiokafka", "qdrant-client", "rocksdict"),
    *("msgspec", "numpy", "onnxruntime", "torch"),
)
FIRST_PYTHON, LAST_PYTHON = (3, 11), (3, 13)
_SPECIFIER = re.compile(r"(>=|==|<=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?")
_SAME = "see that every process runs this version of nextwatch"


def python_diagnosis(version: tuple[int, int] = sys.version_info[:2]) -> Diagnosis:
    """Return whether this code runs on a Python that it is tested with."""
    found = f"{version[0]}.{version[1]}, nextwatch {VERSION}"
    if FIRST_PYTHON <= version <= LAST_PYTHON:
        return _of("Python", PartHealth.OK, found)
    return _of("Python", PartHealth.WRONG, found, "use Python 3.11, 3.12 or 3.13")


def package_diagnoses(
    required: Mapping[str, str], installed: Mapping[str, str]
) -> Iterator[Diagnosis]:
    """Yield which of `PACKAGES` are not as *required*, by name, and one line for all others."""
    good = []
    for name in PACKAGES:
        if name not in installed:
            if name in required and name != "torch":
                yield _of(name, PartHealth.WRONG, "is not installed", "pip install nextwatch again")
            continue
        if is_version_met(installed[name], required.get(name, "")):
            good.append(f"{name} {installed[name]}")
        else:
            yield _of(
                name,
                PartHealth.WRONG,
                f"{installed[name]}, wanted {required[name]}",
                "pip install -c constraints.txt nextwatch",
            )
    yield _of("packages", PartHealth.OK, ", ".join(good))


def packages() -> Iterator[Diagnosis]:
    """Yield what `package_diagnoses` says of this installation."""
    required = {}
    for line in metadata.requires("nextwatch") or []:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if name and name[0] in PACKAGES:
            required[name[0]] = line[name.end() :].partition(";")[0].strip()
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    yield from package_diagnoses(required, installed)


def is_version_met(version: str, specifiers: str) -> bool:
    """Return whether *version* is within *specifiers*, `>=1.2,<2` or `==1.2.*`."""
    numbers = _numbers(version)
    for operator, bound, is_prefix in _SPECIFIER.findall(specifiers):
        wanted = _numbers(bound)
        size = max(len(numbers), len(wanted))
        one, other = (part + (0,) * (size - len(part)) for part in (numbers, wanted))
        if is_prefix:
            one, other = numbers[: len(wanted)], wanted
        met = {
            ">=": one >= other,
            "<=": one <= other,
            "==": one == other,
            "<": one < other,
            ">": one > other,
        }
        if not met[operator]:
            return False
    return True


def broker_diagnosis(settings: Mapping[str, str]) -> Diagnosis:
    """Return the broker's version, which Kafka tells only by a setting, and to few."""
    told = settings.get("inter.broker.protocol.version", "")
    if told:
        return _of("broker", PartHealth.OK, f"Kafka, protocol between brokers {told}")
    return _of(
        "broker",
        PartHealth.NOT_CHECKED,
        "it tells no version: Kafka's protocol has none, and brokers since 4.0 no setting that "
        "implies it; what this code asks of a broker is checked under topics",
    )


def index_diagnosis(server: str, client: str) -> Diagnosis:
    """Return whether the server is within one minor version of the client, as Qdrant supports."""
    found = f"server {server}, client {client}"
    one, other = _numbers(server)[:2], _numbers(client)[:2]
    if not one or not other:
        return _of("Qdrant", PartHealth.NOT_CHECKED, found)
    if one[0] == other[0] and abs(one[-1] - other[-1]) <= 1:
        return _of("Qdrant", PartHealth.OK, found)
    remedy = "Qdrant supports one minor version between server and client: bring them together"
    return _of("Qdrant", PartHealth.NOTED, found, remedy)


class _Versions(msgspec.Struct):
    """What the manifest of a bundle, or the card of its ranker, says of versions."""

    format_version: int = 0
    feature_version: int = 0
    files: dict[str, msgspec.Raw] = {}


def bundle_diagnoses(url: str, announced: BundleAnnouncement | None) -> Iterator[Diagnosis]:
    """Yield whether this code reads the bundle in service under the store's *url*."""
    if announced is None:
        yield _of(
            "bundle",
            PartHealth.NOTED,
            "no generation is in service: lists are what was watched most",
            "start trainer and index_sync; `nextwatch models list` shows what they offer",
        )
        return
    place = StoredBundle.at(f"{url.rstrip('/')}/{announced.bundle_id}")
    what = f"bundle of generation {announced.generation}"
    try:
        manifest = _read(place, MANIFEST)
        versions = {
            "format": (manifest.format_version, FORMAT_VERSION),
            "features": (manifest.feature_version, features.VERSION),
        }
        if CARD in manifest.files:
            card = _read(place, CARD)
            versions["ranking features"] = (card.feature_version, ranking_features.VERSION)
    except StoreUnavailable as error:
        yield _of(
            what,
            PartHealth.WRONG,
            "its files are not there" if error.is_missing else "the store does not give its files",
            "see that NEXTWATCH_PROCESS_BUNDLE_URL names the store of the trainer: a worker that "
            "starts now has no model",
        )
        return
    except msgspec.MsgspecError:
        yield _of(
            what, PartHealth.WRONG, "its manifest cannot be read", "`nextwatch models rollback`"
        )
        return
    told = ", ".join(f"{name} {has}" for name, (has, _) in versions.items())
    if strays := [f"{name} {reads}" for name, (has, reads) in versions.items() if has != reads]:
        yield _of(what, PartHealth.WRONG, f"{told}; this code reads {', '.join(strays)}", _SAME)
    else:
        yield _of(what, PartHealth.OK, told)


def _read(place: StoredBundle, name: str) -> _Versions:
    return msgspec.json.decode(place.read(name), type=_Versions)


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, found[1].split("."))) if found else ()


def _of(what: str, health: PartHealth, found: str, remedy: str = "") -> Diagnosis:
    return Diagnosis(check="versions", what=what, health=health, found=found, remedy=remedy)
