"""No other site reads from the console, or makes a browser change something here."""

import re

import httpx
import pytest

from nextwatch.console.guards import OUR_HEADER

pytestmark = pytest.mark.stack

CHANGES = [
    ("POST", "/v1/events/watch"),
    ("POST", "/v1/events/search"),
    ("POST", "/v1/events/impressions"),
    ("POST", "/v1/videos"),
    ("DELETE", "/v1/videos/v1"),
    ("POST", "/console/uploads"),
    ("DELETE", "/console/uploads/v1"),
    ("POST", "/console/models/rollback"),
    ("POST", "/console/models/promote"),
    ("POST", "/console/letters/replay"),
    ("POST", "/console/users/u1/erase"),
    ("POST", "/console/faults/streams"),
]


def request(console, method, path, **headers):
    url = f"{console.url}{path}"
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.request(method, url, headers=names, timeout=20)


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_nothing_changes_without_the_header_that_other_sites_cannot_set(console, method, path):
    assert request(console, method, path).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://example.org"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/console/models/rollback"), ("GET", "/console/users")]
)
def test_what_a_browser_says_comes_from_elsewhere_is_turned_away(console, method, path, headers):
    given = headers | {OUR_HEADER.replace("-", "_"): "1"}

    assert request(console, method, path, **given).status_code == 403


def test_the_console_is_opened_by_a_link_on_another_site(console):
    headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}

    assert request(console, "GET", "/", **headers).status_code == 200


@pytest.mark.parametrize("host", ["example.org", "example.org:8090", "127.0.0.1.example.org"])
def test_another_host_name_is_not_answered_so_that_dns_rebinding_fails(console, host):
    assert request(console, "GET", "/", host=host).status_code == 421


def test_every_answer_forbids_scripts_that_are_not_ours(console):
    for path in ("/", "/static/console.js", "/console/users", "/console/why/x", "/none"):
        answer = console.client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_no_script_or_style_is_inline_and_nothing_comes_from_elsewhere(console):
    page = console.client.get("/").text

    assert "<style" not in page
    assert " style=" not in page
    assert not re.search(r"<[^>]+\son[a-z]+=", page)
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<script") == 1
