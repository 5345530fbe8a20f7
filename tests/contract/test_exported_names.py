"""The names of the contract that users and other packages may rely on.

Who removes or renames one breaks somebody's import: change the list in the same commit, and tell it
in CHANGELOG.md.
"""

import ast
from pathlib import Path

import pytest

CONTRACT = Path(__file__).parents[2] / "contract"

EXPORTED = {
    "wire.events": """
        BundleAnnouncement BundleId BundleState Code Component Context Country DurationMs Event EventId
        Generation HotVideo HottestVideos Id ImpressedVideo Impressions ItemVector Label Language FLOAT32_BYTES
        MAX_AHEAD_MS MAX_CANDIDATES_BYTES MAX_DURATION_MS MAX_FEATURES MAX_GENERATION MAX_HISTORY
        MAX_TIME_MS MAX_VECTOR_LENGTH MIN_TIME_MS Number Origin RankingFeatures RankingLog
        Recommendation RecommendationId RecommendationRequest RecommendedVideo Search Sha256
        ShortLabel SimilarVideo SimilarVideos TimeMs UserDeletion Vector VideoUpload Watch WatchMs encode
    """,
    "wire.topics": """
        BY_NAME DAY_MS HOTTEST_VIDEOS IMPRESSIONS ITEM_VECTORS KeyField Layout MODEL_BUNDLES NOT_AFTER
        OUR_COMMANDS OUR_PROCESSES RANKING_LOG RECOMMENDATIONS RECOMMENDATION_REQUESTS SEARCH_EVENTS SIMILAR_VIDEOS STREAMS_APP
        TOPICS Topic USER_DELETIONS VIDEO_UPLOADS WATCH_EVENTS WINDOWS
    """,
    "wire.words": """
        ALL_SEEN ANN ARMS CATALOGUE_EMPTY DEFAULT_ARM DEGRADED EXACT HOTTEST INDEX_AWAY LAST_GOOD
        MODEL_BROKEN NO_BUNDLE SEARCH SEEN_AGAIN SIMILAR SOURCES TDM TRENDING
    """,
    "errors": """
        BUNDLE_FAULTS BrokerUnavailable BundleError ContractError DatasetError DecodeError IndexUnavailable
        NewerFormatError NextwatchError StackError StorageFull StoreError StoreUnavailable
        WindowError WorkerPausedError
    """,
    "wire.dead_letters": """
        MAX_KEPT_BYTES MAX_KEPT_HEADER_BYTES MAX_KEPT_KEY_BYTES REASONS dead_letter
    """,
    "wire.decoding": """
        E MAX_HEADERS MAX_HEADER_BYTES MAX_SKEW_MS check_not_future check_place decode
        decode_value is_id tombstone_id
    """,
    "wire.identifiers": """
        BUNDLE_ID_BODY EXACT_END ID_BODY ID_RULE MAX_ID_BYTES UUID_BODY as_uuid event_key is_nil
        is_too_long matching
    """,
    "wire.keys": "MAX_KEY_BYTES murmur2 partition_of",
    "process.clock": "Clock ManualClock NanosecondClock system_clock system_clock_ns",
    "version": "VERSION",
}


def _defined(module: str) -> set[str]:
    """Return the public names that the module defines itself, not those that it imports."""
    path = CONTRACT / f"{module.replace('.', '/')}.py"
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("module", sorted(EXPORTED))
def test_the_exported_names_are_those_listed(module):
    """A name that goes, or that comes without anybody having said so, shows here."""
    assert sorted(_defined(module)) == sorted(EXPORTED[module].split())
