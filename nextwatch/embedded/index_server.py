"""Serve the part of Qdrant's REST API that this project uses, by Qdrant's own engine.

The embedded stack has no Qdrant server, and must not have a second client path either. So
this process answers the unmodified ``qdrant_client.QdrantClient(url=...)``, and whatever else
speaks REST to Qdrant. Run it with ``python -m nextwatch.embedded.index_server --port P --data
DIR``; it knows neither keys nor TLS, so it listens on
127.0.0.1 unless ``--host`` names another address.
"""

import argparse
import asyncio
import faulthandler
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from contract.process.exit_codes import told_in_one_line
from nextwatch.embedded.index import index_wire as wire
from nextwatch.embedded.index.index_collection import Collection
from nextwatch.embedded.index.index_collections import CollectionStore
from nextwatch.embedded.index.index_failures import Failures, refusal_of

log = structlog.get_logger()

KEEP_ALIVE_S = 300
GRACE_S = 3

Answer = Callable[[CollectionStore, Request], Awaitable[Any]]
T = TypeVar("T")


async def query_batch(collections: CollectionStore, request: Request) -> Any:
    """Nearest points for each of several queries."""
    batch = await _body(request, wire.QueryBatch)
    return [{"points": found} for found in _collection(collections, request).query(batch.searches)]


async def query(collections: CollectionStore, request: Request) -> Any:
    """Nearest points for one query."""
    single = await _body(request, wire.Query)
    return {"points": _collection(collections, request).query([single])[0]}


async def upsert(collections: CollectionStore, request: Request) -> Any:
    """Insert or replace points; answered when they are written and can be found."""
    collection = _collection(collections, request)
    points = (await _body(request, wire.Upsert)).rows()
    return _completed(await collection.upsert(points))


async def delete_points(collections: CollectionStore, request: Request) -> Any:
    """Delete points by id or by filter."""
    collection = _collection(collections, request)
    return _completed(await collection.delete(await _body(request, wire.Delete)))


async def retrieve(collections: CollectionStore, request: Request) -> Any:
    """Points by id."""
    return _collection(collections, request).retrieve(await _body(request, wire.Retrieve))


async def count(collections: CollectionStore, request: Request) -> Any:
    """How many points there are, exactly."""
    wanted = (await _body(request, wire.Count)).filter
    return {"count": _collection(collections, request).count(wanted)}


async def scroll(collections: CollectionStore, request: Request) -> Any:
    """One page of points."""
    page = await _body(request, wire.Scroll)
    points, next_id = _collection(collections, request).scroll(page)
    return {"points": points, "next_page_offset": next_id}


async def index_field(collections: CollectionStore, request: Request) -> Any:
    """Index a payload field."""
    wanted = await _body(request, wire.CreateFieldIndex)
    schema = wanted.field_schema
    kind = schema.get("type") if isinstance(schema, dict) else schema
    collection = _collection(collections, request)
    return _completed(await collection.index_field(wanted.field_name, str(kind or "keyword")))


async def list_collections(collections: CollectionStore, _request: Request) -> Any:
    """Names of the collections."""
    return {"collections": [{"name": name} for name in collections.names()]}


async def exists(collections: CollectionStore, request: Request) -> Any:
    """Whether there is such a collection, or an alias to one."""
    return {"exists": request.path_params["name"] in collections}


async def get_collection(collections: CollectionStore, request: Request) -> Any:
    """State and settings of a collection."""
    return _info(_collection(collections, request))


async def create_collection(collections: CollectionStore, request: Request) -> Any:
    """Create a collection."""
    await collections.create(
        request.path_params["name"], await _body(request, wire.CreateCollection)
    )
    return True


async def update_collection(collections: CollectionStore, request: Request) -> Any:
    """Merge metadata; build the index of more than ``indexing_threshold`` KB of vectors."""
    changed = await _body(request, wire.UpdateCollection)
    collection = _collection(collections, request)
    collection.merge_metadata(changed.metadata or {})
    threshold_kb = changed.optimizers_config and changed.optimizers_config.indexing_threshold
    size_kb = collection.count() * collection.settings.size * 4 / 1024
    if threshold_kb and size_kb > threshold_kb:
        await collection.build_index(threshold_kb=threshold_kb)
    return True


async def delete_collection(collections: CollectionStore, request: Request) -> Any:
    """Delete a collection; false when there was none."""
    return await collections.delete(request.path_params["name"])


async def list_aliases(collections: CollectionStore, request: Request) -> Any:
    """Aliases of one collection, or of all."""
    name = request.path_params.get("name")
    pairs = [(a, to) for a, to in sorted(collections.aliases.items()) if name in (None, to)]
    return {"aliases": [{"alias_name": alias, "collection_name": to} for alias, to in pairs]}


async def change_aliases(collections: CollectionStore, request: Request) -> Any:
    """Create, delete and rename aliases, all actions at once."""
    changed = dict(collections.aliases)
    for action in (await _body(request, wire.ChangeAliases)).actions:
        if action.create_alias:
            changed[action.create_alias.alias_name] = action.create_alias.collection_name
        if action.delete_alias:
            changed.pop(action.delete_alias.alias_name, None)
        if action.rename_alias:
            old = action.rename_alias.old_alias_name
            if old not in changed:
                raise wire.Refused(404, f"Not found: Alias `{old}` does not exist!")
            changed[action.rename_alias.new_alias_name] = changed.pop(old)
    collections.change_aliases(changed)
    return True


async def root(_request: Request) -> Response:
    """Name and version; the version is that of the client."""
    told = {"title": "qdrant - vector search engine", "version": version("qdrant-client")}
    return Response(msgspec.json.encode(told), media_type="application/json")


async def healthy(_request: Request) -> Response:
    """The answer to every health probe: all collections are open once this listens."""
    return PlainTextResponse("healthz check passed")


_POINTS = "/collections/{name}/points"
ANSWERS: tuple[tuple[str, str, Answer], ...] = (
    ("POST", _POINTS + "/query/batch", query_batch),  # routes are tried in order: hottest first
    ("POST", _POINTS + "/query", query),
    ("PUT", _POINTS, upsert),
    ("POST", _POINTS, retrieve),
    ("POST", _POINTS + "/delete", delete_points),
    ("POST", _POINTS + "/count", count),
    ("POST", _POINTS + "/scroll", scroll),
    ("GET", "/collections", list_collections),
    ("POST", "/collections/aliases", change_aliases),
    ("GET", "/aliases", list_aliases),
    ("GET", "/collections/{name}/aliases", list_aliases),
    ("GET", "/collections/{name}/exists", exists),
    ("PUT", "/collections/{name}/index", index_field),
    ("GET", "/collections/{name}", get_collection),
    ("PUT", "/collections/{name}", create_collection),
    ("PATCH", "/collections/{name}", update_collection),
    ("DELETE", "/collections/{name}", delete_collection),
)


def build_app(collections: CollectionStore) -> Starlette:
    """Return the web application that serves *collections*."""
    failures = Failures()
    routes = [
        Route(path, _answered(collections, answer, failures), methods=[method])
        for method, path, answer in ANSWERS
    ]
    probes = [Route(path, healthy) for path in ("/healthz", "/readyz", "/livez")]
    return Starlette(routes=[*routes, Route("/", root), *probes])


def _answered(
    collections: CollectionStore, answer: Answer, failures: Failures
) -> Callable[[Request], Awaitable[Response]]:
    """Wrap *answer* in Qdrant's envelope, whatever becomes of it."""

    async def respond(request: Request) -> Response:
        started = time.perf_counter()
        status, body = 200, {}
        try:
            body = {"result": await answer(collections, request), "status": "ok"}
        except Exception as error:  # noqa: BLE001 - it is logged and answered
            refused = refusal_of(error)
            status, body = refused.status, {"status": {"error": refused.message}}
            failures.note(request.method, request.url.path, status, refused.message)
        body["time"] = time.perf_counter() - started
        return Response(msgspec.json.encode(body), status, media_type="application/json")

    return respond


async def _body(request: Request, kind: type[T]) -> T:
    return msgspec.json.decode(await request.body(), type=kind)


def _collection(collections: CollectionStore, request: Request) -> Collection:
    return collections[request.path_params["name"]]


def _completed(operation_id: int) -> dict[str, Any]:
    return {"operation_id": operation_id, "status": "completed"}


def _info(collection: Collection) -> dict[str, Any]:
    settings = collection.settings
    vectors = {"size": settings.size, "distance": settings.distance}
    hnsw = {"m": settings.m, "ef_construct": settings.ef_construct, "full_scan_threshold": 10_000}
    optimizers = {
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1000,
        "default_segment_number": 1,
        "flush_interval_sec": 5,
    }
    config = {"params": {"vectors": vectors}, "hnsw_config": hnsw, "optimizer_config": optimizers}
    config["metadata"] = settings.metadata
    told = {"status": "yellow", "optimizer_status": "ok", "segments_count": 0, "config": config}
    told["payload_schema"] = {}
    if collection.is_building:
        return told
    info = collection.shard.info()
    return told | {
        "status": "green",
        "segments_count": info.segments_count,
        "points_count": info.points_count,
        "indexed_vectors_count": info.indexed_vectors_count,
    }


def main() -> None:
    """Serve until SIGTERM or Ctrl-C, which end it within `GRACE_S`."""
    parser = argparse.ArgumentParser(
        prog="python -m nextwatch.embedded.index_server",
        description=(__doc__ or "").split("\n")[0],
    )
    parser.add_argument("--port", type=int, required=True, help="to listen on")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--data", type=Path, required=True, help="directory of the collections")
    given = parser.parse_args()
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    faulthandler.enable(all_threads=False)  # names a SIGBUS, which ends this process
    with told_in_one_line("index"):
        collections = CollectionStore(given.data)
    config = uvicorn.Config(
        build_app(collections),
        host=given.host,
        port=given.port,
        access_log=False,
        log_level="warning",
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    # uvicorn stops on a signal and then raises it again, for whoever handled it before: nobody
    # does, and the process would end by the signal instead of closing its collections.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    log.info("index_opened", port=given.port, collections=len(collections.names()))
    try:
        asyncio.run(uvicorn.Server(config).serve())
    finally:
        collections.close()


if __name__ == "__main__":
    main()
