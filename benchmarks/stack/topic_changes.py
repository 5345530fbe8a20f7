"""Delete a topic and create it again under running clients."""

from benchmarks.cluster.operator import Operator, until
from contract.errors import NextwatchError
from contract.process.settings import KafkaSettings
from nextwatch.topics.topics import reconcile


def create_again(kafka: KafkaSettings, name: str) -> None:
    """Delete the topic *name* and have `nextwatch topics` create it again.

    Raises:
        KafkaException: the broker refused.
        TimeoutError: the broker took too long.
    """
    operator, full_name = Operator(kafka.bootstrap_servers), kafka.topic_prefix + name
    operator.delete_topic(full_name)

    def is_created() -> bool:
        try:
            reconcile(kafka)
        except NextwatchError:  # it is still being deleted
            return False
        return full_name in operator.admin.list_topics(timeout=10).topics

    until(is_created, f"{full_name} is not there again")
