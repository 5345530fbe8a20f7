"""What is installed and released is pinned, has its hash, and is built to the same bytes twice."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from contract.version import VERSION

pytestmark = pytest.mark.timeout(600)  # two builds, also where others have the processors

ROOT = Path(__file__).parents[2]
RELEASE = ROOT / "ops" / "release"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "container/build.lock")
PACKAGES = ("contract", "models", "streams", "trainer", "index_sync", "nextwatch")
FILES = (
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", ".gitignore"),
    *("constraints.txt", "requirements.lock"),
)
OTHER_DAY_S = 1_000_000_000


def _pins(name):
    """Return the requirements of a file of pins by name, without their hashes."""
    text = re.sub(r"\\\n\s+--hash=\S+", "", (ROOT / name).read_text())
    lines = [Requirement(line) for line in text.splitlines() if line and line[0] != "#"]
    return {canonicalize_name(line.name): line for line in lines}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_file_has_its_hash_and_no_address(lock):
    """Then pip takes no other file, and each installation asks the index that it is set to."""
    text = (ROOT / lock).read_text()
    entries = re.split(r"^(?=[a-zA-Z])", text.partition("make lock\n")[2], flags=re.MULTILINE)[1:]

    assert len(entries) == len(_pins(lock))
    assert [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []
    assert "://" not in text


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_pin_the_tested_versions(lock):
    """If this fails: `make lock`. What only Windows needs is tested nowhere."""
    tested = _pins("constraints.txt")

    assert {
        name: str(pin.specifier)
        for name, pin in _pins(lock).items()
        if pin.marker is None and pin.specifier != tested[name].specifier
    } == {}


def test_the_lock_has_everything_that_the_processes_and_the_gateway_need():
    """With --require-hashes pip would end at the first one that is not there."""
    gateway = PROJECT["project"]["optional-dependencies"]["gateway"]
    todo = [*PROJECT["project"]["dependencies"], *gateway]
    locked, missing = _pins("requirements.lock"), []
    while todo:
        need = Requirement(todo.pop())
        extras = {"", *need.extras}
        if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if canonicalize_name(need.name) not in locked:
            missing.append(str(need))
        for further in distribution(need.name).requires or ():
            child = Requirement(further)
            if not child.marker or any(child.marker.evaluate({"extra": one}) for one in extras):
                child.marker = None
                todo.append(str(child))

    assert missing == []


def test_the_embedded_extra_names_what_the_gateway_needs_without_the_project():
    """A program that installs what the extra lists, and no Nextwatch, finds no `nextwatch[...]`."""
    extras = PROJECT["project"]["optional-dependencies"]

    assert set(extras["gateway"]) <= set(extras["embedded"])
    assert not [need for needs in extras.values() for need in needs if "nextwatch" in need]


def test_the_lock_of_the_build_has_its_backend():
    [backend] = map(Requirement, PROJECT["build-system"]["requires"])
    [pin] = _pins("container/build.lock")[backend.name].specifier

    assert backend.specifier.contains(pin.version)


def test_the_image_takes_nothing_without_its_hash_but_the_torch_that_is_named():
    installs = re.findall(r"pip install (.+)", (ROOT / "Dockerfile").read_text())

    assert [line for line in installs if "--require-hashes" not in line] == [
        "--no-build-isolation --no-deps --prefix=/install .",
        "-c /usr/share/nextwatch/constraints.txt ${TORCH} \\",
        "-c /usr/share/nextwatch/constraints.txt onnx; \\",
    ]


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    """Two folders that a release of the same files was built into, on other days by other users."""
    found = []
    for mode, at_s, zone in ((0o644, None, "UTC"), (0o600, OTHER_DAY_S, "Asia/Tokyo")):
        checkout = tmp_path_factory.mktemp("checkout")
        for name in sorted((*PACKAGES, "examples", "ops"), reverse=at_s is None):
            ignored = shutil.ignore_patterns("__pycache__", "node_modules")
            shutil.copytree(ROOT / name, checkout / name, ignore=ignored)
        for name in FILES:
            shutil.copy(ROOT / name, checkout)
        for path in checkout.rglob("*"):
            if path.is_file():
                path.chmod(mode)
            if at_s is not None:
                os.utime(path, (at_s, at_s))
        found.append(tmp_path_factory.mktemp("dist"))
        script = checkout / "ops" / "release" / "distribution.py"
        env = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
        done = subprocess.run(
            (sys.executable, script, found[-1]),
            env={**env, "TZ": zone},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return found


@pytest.mark.slow
def test_a_release_that_is_built_twice_has_the_same_bytes(releases):
    """Whoever doubts a wheel builds it from the sources and compares the sums."""
    first, second = ({file.name: file.read_bytes() for file in one.iterdir()} for one in releases)

    assert set(first) == {
        *("SHA256SUMS", "RELEASE_NOTES.md", f"nextwatch-{VERSION}.cdx.json"),
        *(f"nextwatch-{VERSION}.tar.gz", f"nextwatch-{VERSION}-py3-none-any.whl"),
    }
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_packages_and_no_other(releases):
    """Type markers and the pins of the embedded Kafka are files, too."""
    with zipfile.ZipFile(next(releases[0].glob("*.whl"))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert held == {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_the_bill_of_materials_has_each_locked_dependency_with_its_hashes(releases):
    [path] = releases[0].glob("*.cdx.json")
    bill = json.loads(path.read_text())
    subject = bill["metadata"]["component"]

    assert (subject["name"], subject["version"]) == ("nextwatch", VERSION)
    assert {canonicalize_name(part["name"]): part["version"] for part in bill["components"]} == {
        name: next(iter(pin.specifier)).version for name, pin in _pins("requirements.lock").items()
    }
    assert all(part["externalReferences"][0]["hashes"] for part in bill["components"])


def _notes(*version):
    argv = (sys.executable, RELEASE / "notes.py", *version)
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_each_version_has_its_release_notes():
    """What `make dist` puts beside the wheel is the section of the changelog, and no other."""
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    for version in headings:
        told = _notes(version).stdout

        assert told.startswith(f"# Nextwatch {version}")
        assert "### Added" in told
        assert "\n## " not in told


def test_release_notes_of_an_unknown_version_are_rejected_with_those_that_there_are():
    told = _notes("9.9.9")

    assert told.returncode == 1
    assert "CHANGELOG.md has no section '9.9.9'" in told.stderr
    assert VERSION in told.stderr


@pytest.fixture
def audit(monkeypatch):
    """The script that asks for vulnerabilities, as a module."""
    monkeypatch.syspath_prepend(str(RELEASE))
    import audit  # noqa: PLC0415 - no package: it is there in this test alone

    yield audit
    sys.modules.pop("audit")


FINE = {"name": "a", "version": "1", "vulns": []}
FLAWED = {
    "name": "b",
    "version": "2",
    "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["2.1"], "aliases": [], "description": ""}],
}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("dependencies", "line", "code"),
    [
        ([FINE, FLAWED], "b 2: PYSEC-2026-1, mended in 2.1", 1),
        ([FINE, UNKNOWN], "1 dependencies without a known vulnerability; no advisories for 1", 0),
        ([UNKNOWN, UNKNOWN], "skipped: not found", 0),
    ],
)
def test_an_audit_fails_for_a_vulnerability_and_is_skipped_without_advisories(
    audit, dependencies, line, code
):
    """A registry that serves no advisories must not stop every change, nor pass for a clean one."""
    [told], ended = audit.verdict({"dependencies": dependencies})

    assert told.startswith(line)
    assert ended == code
