"""Measure a first installation: a clone in an empty home directory, README's examples.

Needs git, make and the Python to install with, and none of our own packages. The clone holds
what is committed. The last line is JSON:

* ``install_s``, ``install_mb``: what `make demo` does before it starts anything;
* ``first_recommendation_s``: from the first ``nextwatch demo`` to its first answer; what is fetched
  once, such as Kafka's jars, is in it;
* ``again_s``: the same, the second time;
* ``examples_ok``: README's producer and consumer, word for word, on ``nextwatch stack up``;
  the address alone is replaced where port 9092 was taken.

Example: python3 -m benchmarks.newcomer
"""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, Dict, Iterator, List

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "127.0.0.1:9092"
DEMO = "ARGS=--headless --seconds 5 --json"
_UP_WITHIN_S = 300.0
_ANSWER_WITHIN_S = 60.0
_LOOK_EVERY_S = 2.0
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Install, run the examples, print the figures; return 1 when the examples did not work."""
    with TemporaryDirectory(prefix="nextwatch-newcomer-") as home:
        clone = Path(home) / "nextwatch"
        run(["git", "clone", "--quiet", str(ROOT), str(clone)], Path(home))
        newcomer = Newcomer(Path(home), clone)
        figures = newcomer.install()
        figures["first_recommendation_s"] = newcomer.first_recommendation_s()
        figures["again_s"] = newcomer.first_recommendation_s()
        figures["examples_ok"] = newcomer.try_examples()
        figures["home_mb"] = megabytes(Path(home)) - megabytes(clone)
    print(json.dumps(figures))
    return int(not figures["examples_ok"])


class Newcomer:
    """A user with an empty home directory and a fresh clone in it."""

    def __init__(self, home: Path, clone: Path) -> None:
        self.clone = clone
        dropped = ("VIRTUAL_ENV", "PYTHONPATH", "XDG_CACHE_HOME")
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in dropped and not name.startswith("NEXTWATCH_")
        }
        self.env = {**kept, "HOME": str(home)}

    def install(self) -> Dict[str, Any]:
        """Install as `make demo` does."""
        began_s = time.monotonic()
        self.make(".venv/.demo")
        install_s = round(time.monotonic() - began_s, 1)
        return {"install_s": install_s, "install_mb": megabytes(self.clone / ".venv")}

    def first_recommendation_s(self) -> float:
        """Run the demo for some seconds, and return when its first answer came."""
        output = self.make("demo", DEMO)
        figures = json.loads(output.strip().splitlines()[-1])
        return float(figures["startup_s"])

    def make(self, target: str, *settings: str) -> str:
        """Run make in the clone, with the TORCH of this run."""
        torch = " ".join(_absolute(word) for word in os.environ.get("TORCH", "").split())
        return run(["make", "--silent", target, f"TORCH={torch}", *settings], self.clone, self.env)

    def try_examples(self) -> bool:
        """Run README's two examples against a stack that is up; return whether a list came."""
        [producer, consumer] = _BLOCK.findall((self.clone / "README.md").read_text())[:2]
        with self.stack_up() as address:
            self.example((self.clone / "examples/python/upload.py").read_text(), address).wait(30)
            reader = self.example(consumer, address)
            try:
                return self.is_answered(reader, producer, address)
            finally:
                reader.kill()
                reader.wait()

    def is_answered(self, reader: "subprocess.Popen[str]", producer: str, address: str) -> bool:
        """Produce until *reader* has printed a list with a video of the example's creator."""
        lines: List[str] = []
        assert reader.stdout is not None
        Thread(target=lines.extend, args=(reader.stdout,), daemon=True).start()
        deadline_s = time.monotonic() + _ANSWER_WITHIN_S
        while time.monotonic() < deadline_s and reader.poll() is None:
            if self.example(producer, address).wait(30):
                return False
            time.sleep(_LOOK_EVERY_S)
            if any(re.match(r"u1 \[.*'v4", line) for line in lines):
                return True
        return False

    def example(self, code: str, address: str) -> "subprocess.Popen[str]":
        """Start *code* with the Python of the clone."""
        argv = [str(self.clone / ".venv/bin/python"), "-c", code.replace(ADDRESS, address)]
        return subprocess.Popen(
            argv, cwd=self.clone, env=self.env, stdout=subprocess.PIPE, text=True
        )

    @contextmanager
    def stack_up(self) -> Iterator[str]:
        """Start ``nextwatch stack up``; yield the address of its broker."""
        argv: List[str] = [str(self.clone / ".venv/bin/nextwatch"), "stack", "up"]
        stack = subprocess.Popen(argv, cwd=self.clone, env=self.env, stdout=subprocess.DEVNULL)
        env_file = self.clone / ".nextwatch" / "stack.env"
        deadline_s = time.monotonic() + _UP_WITHIN_S
        try:
            while not env_file.exists():
                if stack.poll() is not None or time.monotonic() > deadline_s:
                    raise SystemExit("newcomer: the stack did not come up")
                time.sleep(0.05)
            found = re.search(r"BOOTSTRAP_SERVERS=(\S+)", env_file.read_text())
            assert found is not None
            yield found[1]
        finally:
            stack.terminate()
            stack.wait(30)


def run(argv: List[str], directory: Path, env: "Dict[str, str] | None" = None) -> str:
    """Run *argv* and return what it prints; its errors are ours."""
    done = subprocess.run(argv, cwd=directory, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"newcomer: {' '.join(argv)} failed:\n{done.stdout[-2000:]}")
    return done.stdout


def megabytes(root: Path) -> int:
    """Return the megabytes that the files below *root* take on the disk; links are not followed."""
    files = (Path(place) / name for place, _, names in os.walk(root) for name in names)
    return round(sum(os.lstat(file).st_blocks * 512 for file in files) / 1e6)


def _absolute(word: str) -> str:
    """Return *word*, as a whole path if it is a file here."""
    return str(Path(word).resolve()) if Path(word).is_file() else word


if __name__ == "__main__":
    sys.exit(main())
