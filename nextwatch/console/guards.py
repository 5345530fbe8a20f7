"""Keep other sites out, and scripts that are not ours.

A page of another site can make a browser send requests to this machine. So a request that changes
something must bear a header that no other site may set, and what the browser tells of where it
comes from must be this origin. Every answer has a Content-Security-Policy that runs no script but
those of the package; with trusted types, no text becomes markup by mistake.
"""

from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextwatch.gateway.guards import HostGuard
from nextwatch.gateway.problems import problem

OUR_HEADER = "nextwatch-console"
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_ON_EVERY_ANSWER = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SAFE = frozenset({"GET", "HEAD"})


class SecurityHeaders:
    """Adds the headers of `_ON_EVERY_ANSWER` to all answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_ON_EVERY_ANSWER)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class SiteGuard:
    """Turns away what another site makes a browser send."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        reason = _foreign(scope) if scope["type"] == "http" else ""
        if reason:
            await problem(HTTPStatus.FORBIDDEN, "site", reason).response()(scope, receive, send)
            return
        await self._app(scope, receive, send)


def guards() -> list[Middleware]:
    """Return what stands before all routes, the outermost first."""
    return [
        Middleware(SecurityHeaders),
        Middleware(HostGuard, allowed=LOCAL_NAMES),
        Middleware(SiteGuard),
    ]


def _foreign(scope: Scope) -> str:
    """Return why a request is not one of our own pages; an empty string when it may be."""
    headers = Headers(scope=scope)
    site, is_safe = headers.get("sec-fetch-site", "none"), scope["method"] in _SAFE
    is_visit = is_safe and headers.get("sec-fetch-mode") == "navigate" and scope["path"] == "/"
    if site not in ("same-origin", "none") and not is_visit:
        return "the request comes from another site"
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{headers.get('host', '')}":
        return "the request comes from another origin"
    if not is_safe and headers.get(OUR_HEADER) != "1":
        return f"a request that changes something needs the header {OUR_HEADER}: 1"
    return ""
