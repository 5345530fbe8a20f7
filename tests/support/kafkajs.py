"""Install kafkajs for programs in JavaScript, or skip the test with the reason."""

import shutil
import subprocess

import pytest

_DECLARED = '{"type": "module", "dependencies": {"kafkajs": "2.2.4"}}'


def install_kafkajs(directory):
    """Install kafkajs in *directory*, as its package.json says if it has one."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("node or npm is not installed")
    if not (directory / "package.json").exists():
        (directory / "package.json").write_text(_DECLARED)
    install = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent")
    done = subprocess.run(install, cwd=directory, capture_output=True, timeout=120, check=False)
    if done.returncode:
        pytest.skip("npm cannot install kafkajs")
