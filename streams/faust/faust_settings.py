"""Derive the settings of Faust from ours."""

from typing import Any

from contract.process.settings import KafkaSettings
from streams.settings import StreamsSettings

RESTORE_WITHIN_S = 3_600.0
"""How long opening partitions may take. Faust's 90 s would end its recovery silently in the
middle of a large changelog; the watchdog detects one that does not move."""

REQUEST_TIMEOUT_S = 40.0
"""How long a request to the broker may take, for which Faust has only the setting above."""


def configuration(
    kafka: KafkaSettings, settings: StreamsSettings, credentials: Any
) -> dict[str, Any]:
    """Return the arguments of the Faust app; *credentials* are an object of Faust's, or None."""
    servers = kafka.bootstrap_servers.split(",")
    session_s = kafka.session_timeout_ms / 1000
    return {
        "broker": [f"aiokafka://{server.strip()}" for server in servers],
        "broker_credentials": credentials,
        "broker_session_timeout": session_s,
        "broker_heartbeat_interval": session_s / 6,
        "broker_rebalance_timeout": max(session_s, 10.0),
        "broker_commit_interval": settings.commit_interval_ms / 1000,
        "broker_request_timeout": RESTORE_WITHIN_S,
        "broker_max_poll_interval": RESTORE_WITHIN_S,
        "consumer_auto_offset_reset": "earliest",
        "consumer_group_instance_id": settings.instance_id,
        "stream_wait_empty": False,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "table_standby_replicas": 1,  # with 0 Faust takes an assignor that does not co-partition
        "store": "memory://",
        "datadir": str(settings.state_dir / "faust"),
        "web_enabled": False,
    }
