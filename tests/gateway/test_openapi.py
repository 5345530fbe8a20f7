"""The OpenAPI document is the contract's, and requests made from it are answered as it says."""

import subprocess
import sys

import pytest

from contract.wire.schemas import dedented, schemas_of
from contract.wire.topics import IMPRESSIONS, SEARCH_EVENTS, VIDEO_UPLOADS, WATCH_EVENTS
from nextwatch.gateway.endpoints import endpoints
from nextwatch.gateway.openapi import document

SEED = 17
NUM_EXAMPLES = 10
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


@pytest.mark.long
@pytest.mark.stack
@pytest.mark.timeout(300)
def test_schemathesis_finds_no_answer_that_the_document_does_not_describe(gateway, tmp_path):
    """Optional parts are repaired, so what the schemas forbid may be accepted: not checked."""
    ran = subprocess.run(
        [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("run", f"{gateway.url}/openapi.json", "--seed", str(SEED), "--workers", "1"),
            *("--max-examples", str(NUM_EXAMPLES), "--phases", "examples,coverage,fuzzing"),
            *("--exclude-path", "/v1/users/{user_id}/recommendations/stream"),
            *("--checks", ",".join(CHECKS)),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert ran.returncode == 0, ran.stdout[-8_000:] + ran.stderr[-2_000:]
    assert gateway.is_ready()


def test_the_document_describes_events_by_the_schemas_of_the_contract():
    """Nothing is described twice, so nothing can differ."""
    described = document(endpoints(max_wait_ms=10_000), has_key=False)
    kinds = [each.kind for each in (WATCH_EVENTS, SEARCH_EVENTS, IMPRESSIONS, VIDEO_UPLOADS)]

    schemas = described["components"]["schemas"]
    assert schemas.items() >= dedented(schemas_of(kinds)).items()
    body = described["paths"]["/v1/events/watch"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Watch"}


@pytest.mark.stack
@pytest.mark.timeout(120)
def test_each_example_of_the_document_is_accepted(gateway):
    described = gateway.client.get("/openapi.json").json()
    answers = [
        gateway.client.post(path, json=body["content"]["application/json"]["example"])
        for path, methods in described["paths"].items()
        for body in [methods.get("post", {}).get("requestBody")]
        if body
    ]

    assert [answer.status_code for answer in answers] == [202] * 4
