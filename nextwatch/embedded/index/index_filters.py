"""Convert queries and filters of the REST API to those of the engine."""

import qdrant_edge as edge

from nextwatch.embedded.index.index_wire import Condition, PointId, Query, Refused, SearchParams


def engine_filter(condition: Condition | None) -> edge.Filter | None:
    """Return *condition* as a filter of the engine.

    Raises:
        Refused: a condition says nothing, or something that is not supported.
    """
    if condition is None:
        return None
    if condition.key is not None or condition.has_id is not None:
        return edge.Filter(must=[_engine_condition(condition)])
    return edge.Filter(
        must=_engine_conditions(condition.must),
        should=_engine_conditions(condition.should),
        must_not=_engine_conditions(condition.must_not),
    )


def engine_query(
    query: Query, vector: list[float], *, without: PointId | None
) -> edge.QueryRequest:
    """Return *query* for *vector* as a query of the engine; the point *without* is left out."""
    wanted = engine_filter(query.filter)
    if without is not None:
        itself: list[edge.ConditionType] = [edge.HasIdCondition({without})]
        wanted = edge.Filter(must=[wanted] if wanted else None, must_not=itself)
    given = query.params or SearchParams()
    params = edge.SearchParams(
        hnsw_ef=given.hnsw_ef,
        exact=bool(given.exact),
        indexed_only=bool(given.indexed_only),
    )
    return edge.QueryRequest(
        limit=10 if query.limit is None else query.limit,
        offset=query.offset or 0,
        query=edge.Query.Nearest(vector),
        filter=wanted,
        params=params,
        score_threshold=query.score_threshold,
        with_payload=query.with_payload or False,
        with_vector=bool(query.with_vector),
    )


def _engine_conditions(
    conditions: list[Condition] | Condition | None,
) -> "list[edge.ConditionType] | None":
    if conditions is None:
        return None
    several = conditions if isinstance(conditions, list) else [conditions]
    return [_engine_condition(condition) for condition in several]


def _engine_condition(condition: Condition) -> "edge.ConditionType":
    if condition.has_id is not None:
        return edge.HasIdCondition(set(condition.has_id))
    if condition.key is None:
        nested = engine_filter(condition)
        assert nested is not None
        return nested
    if condition.range is not None:
        return edge.FieldCondition(condition.key, range=edge.RangeFloat(**condition.range))
    match condition.match:
        case {"value": value}:
            return edge.FieldCondition(condition.key, match=edge.MatchValue(value))
        case {"any": [*values]}:
            return edge.FieldCondition(condition.key, match=edge.MatchAny(values))
        case {"except": [*values]}:
            return edge.FieldCondition(condition.key, match=edge.MatchExcept(values))
    raise Refused(400, f"Bad request: a condition on {condition.key!r} that is not supported here")
