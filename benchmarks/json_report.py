"""End a benchmark with one JSON object and an exit code."""

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import structlog


def log_errors_only() -> None:
    """Keep the log of this process to errors, so that progress stays readable."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def exit_with(figures: Mapping[str, Any], *, is_right: bool) -> NoReturn:
    """Print *figures* as the last line of standard output; exit with 0 if it *is_right*, else 1."""
    print(json.dumps(figures))
    sys.exit(0 if is_right else 1)
