"""One project for the tests that share it; everything that is started is removed."""

import subprocess
import sys
import uuid

import pytest

from tests.containers.compose import Project, docker


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "containers":
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session", autouse=True)
def _engine():
    asked = subprocess.run(
        [sys.executable, "-m", "tests.support.docker_engine"],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        pytest.skip(asked.stdout.strip())


@pytest.fixture(scope="session")
def run_name():
    return f"nextwatch-test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def images(_engine, run_name):
    """The images of the project, built once."""
    env = {"NEXTWATCH_IMAGE": f"{run_name}:1", "NEXTWATCH_TRAINER_IMAGE": f"{run_name}-trainer:1"}
    Project(run_name, env).compose("build", "topics", "trainer")
    yield env
    docker("image", "rm", *env.values())


@pytest.fixture(scope="session")
def project(images, run_name):
    """Everything up; a test that changes something puts it back."""
    project = Project(run_name, images)
    try:
        project.up()
        yield project
    finally:
        project.down()


@pytest.fixture
def started(images, run_name):
    """Starts further projects, and removes them after the test."""
    projects = []

    def start(suffix, *services, **options):
        projects.append(Project(f"{run_name}-{suffix}", images, **options))
        projects[-1].up(*services)
        return projects[-1]

    yield start
    for project in projects:
        project.down()
