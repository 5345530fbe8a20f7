"""Define every metric. docs/metrics.md is generated from here, and nothing else names one.

`python -m nextwatch.metrics_reference > docs/metrics.md` writes the page; tests keep it current,
and check that dashboards and alert rules name nothing that is not here.
"""

from contract.metrics.metric import (
    INDEX_SYNC,
    LOOPS,
    OVER_HTTP,
    PROCESSES,
    STREAMS,
    TRAINER,
    Metric,
)

_S, _T, _X = (STREAMS,), (TRAINER,), (INDEX_SYNC,)

MILLISECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1)
"""Of stages of a micro-batch."""
ANSWER = (0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 60)
"""Of answers: fine around the promised p50 of 15 ms and p99 of 50 ms."""
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""Of what takes from milliseconds to minutes."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024)
"""Of micro-batches."""

BUILD_INFO = Metric(
    "nextwatch_build_info", "gauge", "1; the labels say which process and version it is",
    PROCESSES, ("process", "version"),
)  # fmt: skip
READY = Metric(
    "nextwatch_ready", "gauge",
    "1 while `/readyz` answers 200, else 0", PROCESSES,
)  # fmt: skip
RSS = Metric(
    "process_resident_memory_bytes", "gauge", "resident memory of the process (Linux)",
    PROCESSES, is_standard=True,
)  # fmt: skip
VIRTUAL = Metric(
    "process_virtual_memory_bytes", "gauge", "virtual memory of the process (Linux)",
    PROCESSES, is_standard=True,
)  # fmt: skip
CPU = Metric(
    "process_cpu_seconds_total", "counter", "user and system CPU time (Linux)",
    PROCESSES, is_standard=True,
)  # fmt: skip
STARTED = Metric(
    "process_start_time_seconds", "gauge", "when the process started, since the epoch (Linux)",
    PROCESSES, is_standard=True,
)  # fmt: skip
OPEN_FDS = Metric(
    "process_open_fds", "gauge", "open file descriptors (Linux)", PROCESSES, is_standard=True,
)  # fmt: skip
MAX_FDS = Metric(
    "process_max_fds", "gauge", "the limit of open file descriptors (Linux)",
    PROCESSES, is_standard=True,
)  # fmt: skip

LAG_RECORDS = Metric(
    "nextwatch_consumer_lag_records", "gauge",
    "records of a partition that are not done: in streams not acknowledged, in trainer not applied, "
    "in index_sync not committed; at most half a second old",
    LOOPS, ("topic", "partition"),
)  # fmt: skip
LAG_SECONDS = Metric(
    "nextwatch_consumer_lag_seconds", "gauge",
    "how long the oldest record of a partition that is not done has waited, as an upper bound; 0 at "
    "the end",
    LOOPS, ("topic", "partition"),
)  # fmt: skip
DEAD_LETTERS = Metric(
    "nextwatch_dead_letters_total", "counter",
    "records sent to `<topic>.dlq`, by the word that `dlq.reason` begins with",
    LOOPS, ("topic", "reason"),
)  # fmt: skip
SKIPPED = Metric(
    "nextwatch_records_skipped_total", "counter",
    "records that break the contract and that another process sends to `<topic>.dlq`",
    (STREAMS, TRAINER, *OVER_HTTP), ("topic", "reason"),
)  # fmt: skip
GENERATION = Metric(
    "nextwatch_generation_in_service", "gauge",
    "the generation that serves: in streams by itself, elsewhere by the announcements; 0: none",
    LOOPS,
)  # fmt: skip
BUNDLES_REFUSED = Metric(
    "nextwatch_bundles_refused_total", "counter",
    "bundles that are not used, by reason; `store_unavailable` ones are tried again",
    (STREAMS, INDEX_SYNC), ("reason",),
)  # fmt: skip
LOOP_AGE = Metric(
    "nextwatch_loop_age_seconds", "gauge",
    "how long ago the main loop began its present round: a long step, an outage or a hang",
    (TRAINER, INDEX_SYNC),
)  # fmt: skip

RECORDS = Metric(
    "nextwatch_streams_records_total", "counter", "records taken into micro-batches, by topic",
    _S, ("topic",),
)  # fmt: skip
RECOMMENDATIONS = Metric(
    "nextwatch_streams_recommendations_total", "counter",
    "recommendations that the broker has acknowledged", _S,
)  # fmt: skip
DEGRADED = Metric(
    "nextwatch_streams_degraded_recommendations_total", "counter",
    "acknowledged recommendations that had to do without something, by what (`degraded`)",
    _S, ("reason",),
)  # fmt: skip
EVENT_TO_RECOMMENDATION = Metric(
    "nextwatch_streams_event_to_recommendation_seconds", "histogram",
    "from the timestamp of an event's record to the acknowledgement of its recommendation; by the "
    "clocks of producer (or broker) and worker",
    _S, buckets=ANSWER,
)  # fmt: skip
STAGE_SECONDS = Metric(
    "nextwatch_streams_stage_seconds", "histogram",
    "wall time of a micro-batch in a stage of the pipeline", _S, ("stage",), MILLISECONDS,
)  # fmt: skip
STAGE_CPU = Metric(
    "nextwatch_streams_stage_cpu_seconds_total", "counter",
    "CPU time of the stage's own thread; what native libraries spend in theirs is not in it",
    _S, ("stage",),
)  # fmt: skip
BATCH_RECORDS = Metric(
    "nextwatch_streams_batch_records", "histogram", "records of a micro-batch", _S, buckets=SIZES,
)  # fmt: skip
BUNDLE_LOADS = Metric(
    "nextwatch_streams_bundle_loads_total", "counter", "bundles put in service", _S,
)  # fmt: skip
BUNDLE_LOAD_SECONDS = Metric(
    "nextwatch_streams_bundle_load_seconds", "histogram",
    "from the choice of a bundle until it serves", _S, buckets=SECONDS,
)  # fmt: skip
ROLLBACKS = Metric(
    "nextwatch_streams_rollbacks_total", "counter",
    "times that an older generation was put in service since the newer one was withdrawn", _S,
)  # fmt: skip
VIDEOS = Metric(
    "nextwatch_streams_videos", "gauge", "videos that can be recommended now", _S,
)  # fmt: skip
VECTORS_AGE = Metric(
    "nextwatch_streams_item_vector_age_seconds", "gauge",
    "how long ago the newest item vector that was applied came to the broker", _S,
)  # fmt: skip
INDEX_FAILURES = Metric(
    "nextwatch_streams_index_failures_total", "counter",
    "searches that the vector index did not answer in time", _S,
)  # fmt: skip
WINDOWS_HEALED = Metric(
    "nextwatch_streams_windows_republished_total", "counter",
    "windows published again since somebody else wrote the changelog, or it was replaced", _S,
)  # fmt: skip
FOLLOWED_LAG_RECORDS = Metric(
    "nextwatch_streams_followed_lag_records", "gauge",
    "records that are not applied, of a partition that every worker follows whole: item vectors, "
    "announcements, uploads, lists; as of the newest fetch",
    _S, ("topic", "partition"),
)  # fmt: skip
FOLLOWED_LAG_SECONDS = Metric(
    "nextwatch_streams_followed_lag_seconds", "gauge",
    "how long the oldest record of such a partition that is not applied has waited, as an upper "
    "bound; 0 at the end",
    _S, ("topic", "partition"),
)  # fmt: skip
PARTITIONS_OWNED = Metric(
    "nextwatch_streams_partitions_owned", "gauge", "partitions that are open here", _S,
)  # fmt: skip

INDEX_STALENESS = Metric(
    "nextwatch_index_staleness_seconds", "gauge",
    "how long the oldest upload, take-down or vector that is not in the index yet has waited, as an "
    "upper bound; 0: the index is current",
    _X,
)  # fmt: skip
UPLOAD_TO_INDEXED = Metric(
    "nextwatch_index_upload_to_indexed_seconds", "histogram",
    "from the timestamp of an upload's record until index and broker have acknowledged it",
    _X, buckets=SECONDS,
)  # fmt: skip
INDEX_UPLOADS = Metric(
    "nextwatch_index_uploads_total", "counter", "uploads written to the index", _X,
)  # fmt: skip
INDEX_TAKEDOWNS = Metric(
    "nextwatch_index_takedowns_total", "counter", "videos taken down", _X,
)  # fmt: skip
INDEX_VECTORS = Metric(
    "nextwatch_index_vectors_total", "counter",
    "vectors of the trainer written to the index, or ignored as older than what it has",
    _X, ("result",),
)  # fmt: skip
INDEX_VIDEOS = Metric(
    "nextwatch_index_videos", "gauge", "videos of the catalogue: uploaded and not taken down", _X,
)  # fmt: skip
INDEX_HELD = Metric(
    "nextwatch_index_held_vectors", "gauge",
    "vectors that wait for their bundle to be announced", _X,
)  # fmt: skip
INDEX_BUILDS = Metric(
    "nextwatch_index_build_seconds", "histogram",
    "from the choice of a bundle until its generation was indexed", _X, buckets=SECONDS,
)  # fmt: skip
INDEX_IS_BUILDING = Metric(
    "nextwatch_index_building", "gauge", "1 while a generation is being built", _X,
)  # fmt: skip
INDEX_REQUESTS_FAILED = Metric(
    "nextwatch_index_failed_requests_total", "counter",
    "requests that the vector index did not answer, and that were tried again", _X,
)  # fmt: skip

TRAINER_RECORDS = Metric(
    "nextwatch_trainer_records_total", "counter", "records read, by topic", _T, ("topic",),
)  # fmt: skip
EXAMPLES = Metric(
    "nextwatch_trainer_examples_total", "counter",
    "examples of retrieval learned from; goes on from the checkpoint", _T,
)  # fmt: skip
EXAMPLES_SCORED = Metric(
    "nextwatch_trainer_examples_scored_total", "counter",
    "examples scored before they were learned from; goes on from the checkpoint", _T,
)  # fmt: skip
RECALL = Metric(
    "nextwatch_trainer_progressive_recall", "gauge",
    "progressive recall at k over the newest 2,000 scored examples: of what is served "
    "(`progressive`), of similarity alone (`retrieval`), of decayed popularity (`popularity`)",
    _T, ("system", "k"),
)  # fmt: skip
LOSS = Metric("nextwatch_trainer_loss", "gauge", "loss of the last batch of retrieval", _T)
PHASE_SECONDS = Metric(
    "nextwatch_trainer_phase_seconds", "histogram",
    "time of a round of the loop in a phase: take, learn, publish, offer, checkpoint",
    _T, ("phase",), SECONDS,
)  # fmt: skip
VECTORS_PUBLISHED = Metric(
    "nextwatch_trainer_vectors_published_total", "counter",
    "vectors published for the generation in service (fast path)", _T,
)  # fmt: skip
BUNDLES_OFFERED = Metric(
    "nextwatch_trainer_bundles_offered_total", "counter", "bundles announced", _T,
)  # fmt: skip
BUNDLES_WITHHELD = Metric(
    "nextwatch_trainer_bundles_withheld_total", "counter",
    "bundles that were due and not announced, by reason", _T, ("reason",),
)  # fmt: skip
CHECKPOINT_AGE = Metric(
    "nextwatch_trainer_checkpoint_age_seconds", "gauge",
    "how long ago the newest checkpoint was saved; absent before the first of this process", _T,
)  # fmt: skip
CHECKPOINTS_FAILED = Metric(
    "nextwatch_trainer_checkpoints_failed_total", "counter", "checkpoints that were not saved", _T,
)  # fmt: skip
USERS = Metric("nextwatch_trainer_users", "gauge", "users with a history window", _T)
TRAINER_VIDEOS = Metric("nextwatch_trainer_videos", "gauge", "videos that may be recommended", _T)
WAITING_WATCHES = Metric(
    "nextwatch_trainer_waiting_watches", "gauge", "watches that wait for their video's upload", _T,
)  # fmt: skip
RANKER_EXAMPLES = Metric(
    "nextwatch_trainer_ranker_examples_total", "counter",
    "examples the ranker has learned from; goes on from the checkpoint", _T,
)  # fmt: skip
RANKER_GAUC = Metric(
    "nextwatch_trainer_ranker_gauc", "gauge",
    "progressive GAUC over the newest examples: of the ranker that learns, of what was served, of "
    "similarity alone",
    _T, ("system",),
)  # fmt: skip
RANKER_LOG_LOSS = Metric(
    "nextwatch_trainer_ranker_log_loss", "gauge", "progressive log loss over the newest examples", _T,
)  # fmt: skip
RANKER_CALIBRATION = Metric(
    "nextwatch_trainer_ranker_predicted_to_watched_ratio", "gauge",
    "watch time that the ranker predicted, by what was watched; 1 is calibrated", _T,
)  # fmt: skip
JOINER_ENTRIES = Metric(
    "nextwatch_trainer_joiner_entries", "gauge",
    "features, impressions and watches that wait to be joined", _T,
)  # fmt: skip
JOINED = Metric(
    "nextwatch_trainer_joined_total", "counter",
    "what the joiner made of impressions and watches; goes on from the checkpoint", _T, ("result",),
)  # fmt: skip
GUARD_ALARMS = Metric(
    "nextwatch_trainer_guard_alarms_total", "counter",
    "alarms of the guard: what serves had turned bad, and was withdrawn", _T,
)  # fmt: skip
GUARD_SHARE = Metric(
    "nextwatch_trainer_guard_bound_ratio", "gauge",
    "what the guard compares with a bound, by the bound; at 1 it alarms", _T, ("check",),
)  # fmt: skip

REQUESTS = Metric(
    "nextwatch_http_requests_total", "counter",
    "requests by the endpoint's name in the OpenAPI document and the status of the answer; `other`: "
    "pages of the console, and paths that are none",
    OVER_HTTP, ("endpoint", "status"),
)  # fmt: skip
REQUEST_SECONDS = Metric(
    "nextwatch_http_request_seconds", "histogram",
    "from the head of a request to the first byte of its answer, the waiting for the broker or for "
    "a list included",
    OVER_HTTP, ("endpoint",), ANSWER,
)  # fmt: skip
STREAMS_OPEN = Metric(
    "nextwatch_http_user_streams", "gauge", "connections that follow a user now", OVER_HTTP,
)  # fmt: skip
VIEW_RECORDS = Metric(
    "nextwatch_http_records_total", "counter",
    "records taken into what is answered from, by topic", OVER_HTTP, ("topic",),
)  # fmt: skip
VIEW_LISTS = Metric(
    "nextwatch_http_lists", "gauge",
    "lists in memory: the latest of each user (`recommendations`), and those of batch jobs",
    OVER_HTTP, ("topic",),
)  # fmt: skip
VIEW_BYTES = Metric(
    "nextwatch_http_lists_bytes", "gauge",
    "what these lists take; `NEXTWATCH_GATEWAY_RECOMMENDATIONS_MIB` and `_LISTS_MIB` bound it",
    OVER_HTTP, ("topic",),
)  # fmt: skip

METRICS: tuple[Metric, ...] = tuple(
    found for found in list(globals().values()) if isinstance(found, Metric)
)
