"""Run every test in containers, and leave none of what they need behind: `make test-containers`.

Images are local stand-ins where the program that makes them is there (NEXTWATCH_TEST_CONTAINERS
names it, else it is ../shared/containers/build beside the checkout), else the official ones. Where
neither can be had the tests are skipped with the reason; with NEXTWATCH_TEST_REQUIRE=containers
that is a failure. Arguments are pytest's.
"""

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from tests.containers.leftovers import Inventory, remove_since
from tests.support.stacks import KAFKA_IMAGE, QDRANT_IMAGE

ROOT = Path(__file__).parents[2]
BUILD = Path(
    os.environ.get("NEXTWATCH_TEST_CONTAINERS", ROOT.parent / "shared" / "containers" / "build")
)
PYTHON_IMAGE = "python:3.11-slim"
CPU_TORCH = "https://download.pytorch.org/whl/cpu"
TESTS = ("tests/containers", "tests/e2e")


def main() -> int:
    """Return pytest's exit code, or 1 where something stays behind."""
    if reason := _obstacle():
        return _skipped(reason)
    before, stand_ins, code = Inventory.now(), set[str](), 0
    try:
        env = _images() | _torch()
        stand_ins |= {image for name, image in env.items() if name.endswith("_IMAGE")}
        argv = [sys.executable, "-m", "pytest", "-k", "containers", *TESTS, *sys.argv[1:]]
        print(
            "images:", *(f"{name}={given}" for name, given in env.items()), sep="\n  ", flush=True
        )
        code = subprocess.run(argv, cwd=ROOT, env={**os.environ, **env}, check=False).returncode
    except subprocess.CalledProcessError as error:
        code = _skipped(f"{BUILD} made no stand-ins (exit {error.returncode})")
    finally:
        told = remove_since(before, stand_ins=stand_ins)
    for what in told:
        print(f"left behind by the tests: {what}")
    return code or int(bool(told))


def _skipped(reason: str) -> int:
    print(f"skipped: {reason}")
    return int("containers" in os.environ.get("NEXTWATCH_TEST_REQUIRE", ""))


def _obstacle() -> str:
    argv = ["docker", "compose", "version"]
    if shutil.which("docker") is None or subprocess.run(argv, capture_output=True).returncode:  # noqa: PLW1510
        return "there is no docker compose"
    images = () if BUILD.exists() else (KAFKA_IMAGE, QDRANT_IMAGE, PYTHON_IMAGE)
    asked = subprocess.run(
        [sys.executable, "-m", "tests.support.docker_engine", *images],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() if asked.returncode else ""


def _images() -> dict[str, str]:
    """Return the images by the variables of docker-compose.yml and of the tests."""
    kafka, qdrant, python = KAFKA_IMAGE, QDRANT_IMAGE, PYTHON_IMAGE
    if BUILD.exists():
        subprocess.run([BUILD, "--product", ROOT], check=True)
        told = subprocess.run([BUILD, "--override"], check=True, capture_output=True, text=True)
        services = yaml.safe_load(told.stdout)["services"]
        kafka, qdrant = services["kafka"]["image"], services["qdrant"]["image"]
        python = services["topics"]["build"]["args"]["PYTHON_IMAGE"]
    return {
        "NEXTWATCH_TEST_KAFKA_IMAGE": kafka,
        "NEXTWATCH_TEST_QDRANT_IMAGE": qdrant,
        "NEXTWATCH_KAFKA_IMAGE": kafka,
        "NEXTWATCH_QDRANT_IMAGE": qdrant,
        "NEXTWATCH_PYTHON_IMAGE": python,
        "NEXTWATCH_TEST_REQUIRE": f"containers,{os.environ.get('NEXTWATCH_TEST_REQUIRE', '')}",
    }


def _torch() -> dict[str, str]:
    """Return pip's own torch, with CUDA, where the index with the one for CPUs is out of reach."""
    if "NEXTWATCH_TORCH" in os.environ:
        return {}
    try:
        urllib.request.urlopen(f"{CPU_TORCH}/torch/", timeout=10).close()
    except (urllib.error.URLError, OSError):
        return {"NEXTWATCH_TORCH": "torch"}
    return {}


if __name__ == "__main__":
    sys.exit(main())
