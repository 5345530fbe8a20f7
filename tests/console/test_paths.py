"""Ids in the paths of the console are those that its pages named, whatever is in them."""

from types import SimpleNamespace
from urllib.parse import quote, unquote

import pytest
from starlette.requests import Request
from starlette.routing import Match

from nextwatch.console.creator.page import CreatorPage
from nextwatch.console.operator.page import OperatorPage
from nextwatch.console.viewer.page import ViewerPage
from nextwatch.gateway.reading import path_id

NONE = SimpleNamespace()


def all_routes():
    """Return the routes of the three pages."""
    viewer = ViewerPage(NONE, NONE, NONE, NONE, NONE, bundle_url="", policy=NONE, clock=NONE)
    creator = CreatorPage(NONE, NONE, NONE, NONE, clock=NONE, is_over=NONE)
    operator = OperatorPage(
        NONE, NONE, NONE, NONE, NONE, erase_within_s=1.0, clock=NONE, is_over=NONE
    )
    return [*viewer.routes(), *creator.routes(), *operator.routes()]


def matched(method, raw_path):
    """Return the request that a route of the console is given, as the server makes it."""
    scope = {
        "type": "http",
        "method": method,
        "raw_path": raw_path.encode(),
        "path": unquote(raw_path),
        "headers": [],
    }
    found = [route.matches(scope) for route in all_routes()]
    [child] = [child for match, child in found if match is Match.FULL]
    return Request({**scope, **child})


@pytest.mark.parametrize("given", ["u1", "a/b", "a/erase", "100%", "50%25", "a%2Fb", "ü %C3%BC"])
@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("POST", "/console/users/{}/erase", "user_id"),
        ("GET", "/console/users/{}/feed", "user_id"),
        ("DELETE", "/console/uploads/{}", "video_id"),
    ],
)
def test_an_id_is_decoded_once(method, path, name, given):
    """Decoded twice, the user ``50%25`` is ``50%``, who would be erased in place of the other."""
    request = matched(method, path.format(quote(given, safe="")))

    assert path_id(request, name) == given
