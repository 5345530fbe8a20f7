"""Check that a Docker engine can start the images of the tests: present, or in a registry.

``python -m tests.support.docker_engine IMAGE...`` exits with 0 when it can, else with 1 and the
reason.
Nothing is pulled here: testcontainers does it once the tests need the image.
"""

import sys

import docker

_TIMEOUT_S = 15


def obstacle(images):
    """Return why *images* cannot be started; an empty string when they can."""
    try:
        engine = docker.from_env(timeout=_TIMEOUT_S)
        engine.ping()
    except (docker.errors.DockerException, OSError):
        return "no Docker engine answers"
    for image in images:
        try:
            engine.images.get(image)
        except docker.errors.ImageNotFound:
            if reason := _not_pullable(engine, image):
                return reason
    return ""


def _not_pullable(engine, image):
    try:
        engine.images.get_registry_data(image)
    except (docker.errors.DockerException, OSError) as error:
        return f"the Docker engine cannot pull {image} ({type(error).__name__})"
    return ""


if __name__ == "__main__":
    if reason := obstacle(sys.argv[1:]):
        print(reason)  # noqa: T201 - its answer
        sys.exit(1)
