"""Turn requests away before anything of them is read: a strange Host, a missing API key.

A page of another site that makes a browser resolve its own name to this machine (DNS rebinding)
sends that name as Host. The key is compared in constant time, and no log has it.
"""

import hmac
from hashlib import sha256
from http import HTTPStatus

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from nextwatch.gateway.problems import Problem, problem
from nextwatch.gateway.settings import GatewaySettings

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json"})
"""Answered without a key: none of them has data of users."""
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked by the address of the process, which is no name: by kubelets and by Prometheus."""
EXPOSED = ("Nextwatch-Answers-Event", "Retry-After")
_PREFLIGHT_S = 600


class HostGuard:
    """Answers only requests whose Host is one of *allowed*, in lower case and without port.

    Those for *open_paths* may have any.
    """

    def __init__(
        self, app: ASGIApp, *, allowed: frozenset[str], open_paths: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._allowed = allowed
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and not self._is_allowed(scope):
            await _STRANGE_HOST.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        hosts = [_name(host) in self._allowed for host in _values(scope, b"host")]
        return hosts == [True] or scope["path"] in self._open_paths


class KeyGuard:
    """Answers only requests that bear *key*, but for `OPEN_PATHS`."""

    def __init__(self, app: ASGIApp, *, key: str) -> None:
        self._app = app
        self._digest = sha256(key.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if (
            scope["type"] == "http"
            and scope["path"] not in OPEN_PATHS
            and not self._is_given(scope)
        ):
            await _NO_KEY.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_given(self, scope: Scope) -> bool:
        values = _values(scope, b"authorization")
        scheme, _, key = (values[0] if len(values) == 1 else b"").partition(b" ")
        is_same = hmac.compare_digest(sha256(key.strip()).digest(), self._digest)
        return scheme.lower() == b"bearer" and is_same


def guards(settings: GatewaySettings, key: str | None) -> list[Middleware]:
    """Return what stands before all routes, the outermost first."""
    found = []
    if allowed := settings.allowed_hosts:
        open_paths = frozenset[str]() if settings.is_loopback else PROBES
        found.append(Middleware(HostGuard, allowed=allowed, open_paths=open_paths))
    if settings.origins:
        found.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["Authorization", "Content-Type"],
                expose_headers=list(EXPOSED),
                max_age=_PREFLIGHT_S,
            )
        )
    if key is not None:
        found.append(Middleware(KeyGuard, key=key))
    return found


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for given, value in scope.get("headers", ()) if given == name]


def _name(host: bytes) -> str:
    text = host.decode("latin-1").lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


_STRANGE_HOST: Problem = problem(
    HTTPStatus.MISDIRECTED_REQUEST,
    "host",
    "the Host header is none that this gateway answers to: NEXTWATCH_GATEWAY_HOSTS names them",
)
_NO_KEY: Problem = problem(
    HTTPStatus.UNAUTHORIZED,
    "api_key",
    "the request must bear the API key: Authorization: Bearer KEY",
    headers={"WWW-Authenticate": "Bearer"},
)
