"""Serve the files of the web application, which are read once and known by name."""

from importlib.resources import files
from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {"Cache-Control": "no-cache"}


def page_routes() -> list[BaseRoute]:
    """Return a route for each file, and `/` for the page."""
    bodies = {
        item.name: item.read_bytes()
        for item in files("nextwatch.console").joinpath("static").iterdir()
        if PurePath(item.name).suffix in _TYPES
    }
    routes = [_route(f"/static/{name}", name, body) for name, body in sorted(bodies.items())]
    return [_route("/", "index.html", bodies["index.html"]), *routes]


def _route(path: str, name: str, body: bytes) -> Route:
    media_type = _TYPES[PurePath(name).suffix]

    async def answer(_request: Request) -> Response:
        return Response(body, headers=_HEADERS, media_type=media_type)

    return Route(path, answer, methods=["GET"], name=f"file:{path}")
