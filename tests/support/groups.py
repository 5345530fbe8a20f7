"""Look at the consumer groups of a broker."""

from confluent_kafka.admin import AdminClient


def members_of(bootstrap_servers, group_id):
    """Return the ids of the members of a group."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    group = admin.describe_consumer_groups([group_id])[group_id].result(10)
    return [member.member_id for member in group.members]
