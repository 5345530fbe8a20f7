"""Look one recommendation up on the topics, and explain it."""

from contract.errors import BundleError, StoreUnavailable
from contract.wire.topics import RECOMMENDATIONS, Layout
from models.bundle import bundle as bundles
from models.history.history import WindowPolicy
from nextwatch.operate.scan import Scan
from nextwatch.why import evidence as found_on
from nextwatch.why.evidence import SHARED_TOPICS, USER_TOPICS, Delivered, Evidence
from nextwatch.why.explain import explain
from nextwatch.why.explanation import Explanation
from nextwatch.why.score_parts import Weights


def explained(
    recommendation_id: str, scan: Scan, layout: Layout, *, bundle_url: str, policy: WindowPolicy
) -> Explanation | None:
    """Return why a recommendation is what it is; None where no such recommendation is kept.

    Raises:
        BrokerUnavailable: nobody answers.
        ContractError: a topic does not exist.
    """
    delivered = found_on.find(scan.read([RECOMMENDATIONS.name]), recommendation_id)
    if delivered is None:
        return None
    evidence = _gathered(delivered, scan, layout)
    return explain(evidence, _weights(evidence, bundle_url), policy)


def _gathered(delivered: Delivered, scan: Scan, layout: Layout) -> Evidence:
    """Read what else is kept of the user and of the videos."""
    evidence = Evidence(delivered)
    names = [topic.name for topic in (*USER_TOPICS, *SHARED_TOPICS)]
    for record in scan.read(names, is_wanted=lambda at: evidence.is_wanted(at, layout)):
        evidence.take(record)
    return evidence


def _weights(evidence: Evidence, url: str) -> Weights | str:
    """Return the weights of the bundle, or why they are not known."""
    bundle_id = evidence.delivered.recommendation.bundle_id
    if bundle_id is None:
        return "no model was in service"
    try:
        with bundles.refused_on_error():
            return Weights.of(bundles.load(f"{url.rstrip('/')}/{bundle_id}"))
    except StoreUnavailable as error:
        away = "is not there any longer" if error.is_missing else "cannot be read now"
        return f"its bundle {away} under NEXTWATCH_PROCESS_BUNDLE_URL"
    except BundleError:
        return "its bundle is damaged, or of a format that this code does not read"
