"""Run a broker for one test: with further settings, or with users and an authorizer."""

import os
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from contract.process.settings import KafkaSettings
from nextwatch.acls import all_needs, grants
from nextwatch.embedded.broker import EmbeddedBroker
from nextwatch.embedded.process.ports import free_ports
from nextwatch.topics.topics import reconcile

PASSWORD = "canary-secret"
_SECURED = """
listeners=INTERNAL://127.0.0.1:{internal},SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=INTERNAL://127.0.0.1:{internal},SASL_PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=INTERNAL:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INTERNAL
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required {users};
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


class SetBroker(EmbeddedBroker):
    """An embedded broker with *settings* of its own, behind those of the project."""

    def __init__(self, settings, **given):
        self._settings = settings
        super().__init__(env=dict(os.environ), **given)

    def _kafka(self, controller_port):
        command = super()._kafka(controller_port)
        file = Path(command[-1])
        added = self._settings(self.port, controller_port)
        file.write_text(f"{file.read_text()}\n{added}\n")
        return command


@contextmanager
def broker_with(directory, **settings):
    """Run a broker with *settings*, whose dots are underscores, and yield it."""
    lines = "\n".join(f"{name.replace('_', '.')}={value}" for name, value in settings.items())
    broker = SetBroker(lambda _port, _controller: lines, log_path=directory / "broker.log")
    broker.start()
    try:
        yield broker
    finally:
        broker.child.stop()


class SecuredBroker:
    """A broker whose users have exactly the rights that `nextwatch acls` prints.

    What has no user, on a listener of its own, may do everything.
    """

    def __init__(self, directory, prefix="s-"):
        self.prefix = prefix
        [self._internal] = free_ports(1)
        self._broker = SetBroker(self._secured, log_path=directory / "broker.log")

    def _secured(self, port, controller):
        apps = {need.app for need in all_needs(KafkaSettings().layout)}
        users = " ".join(f'user_{app}="{PASSWORD}"' for app in sorted(apps))
        return _SECURED.format(
            internal=self._internal, port=port, controller=controller, users=users
        )

    def __enter__(self):
        self._broker.start()
        reconcile(self.unbound)
        self.admin = AdminClient({"bootstrap.servers": self.unbound.bootstrap_servers})
        self.grant(grants(all_needs(self.unbound.layout)))
        return self

    def __exit__(self, *_):
        self._broker.child.stop()

    @property
    def unbound(self):
        """The settings of the super user."""
        return KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{self._internal}",
            topic_prefix=self.prefix,
            user_partitions=4,
            video_partitions=1,
        )

    def env(self, app):
        """Return the settings by which the user of *app* connects."""
        return {
            "NEXTWATCH_KAFKA_BOOTSTRAP_SERVERS": self._broker.bootstrap_servers,
            "NEXTWATCH_KAFKA_TOPIC_PREFIX": self.prefix,
            "NEXTWATCH_KAFKA_USER_PARTITIONS": "4",
            "NEXTWATCH_KAFKA_VIDEO_PARTITIONS": "1",
            "NEXTWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "NEXTWATCH_KAFKA_SASL_MECHANISM": "PLAIN",
            "NEXTWATCH_KAFKA_SASL_USERNAME": app,
            "NEXTWATCH_KAFKA_SASL_PASSWORD": PASSWORD,
        }

    def grant(self, given):
        """Give the rights in *given*."""
        bindings = [binding for grant in given for binding in _bindings(grant)]
        for future in self.admin.create_acls(bindings).values():
            future.result(10)

    def revoke(self, app, resource, name, right):
        """Take one right of a user away; return the grant that gives it back."""
        grant = next(
            one
            for one in grants(all_needs(self.unbound.layout))
            if (one.app, one.resource, one.name) == (app, resource, name)
        )
        taken = [b for b in _bindings(grant) if b.operation is operation_of(right)]
        filters = [
            AclBindingFilter(
                b.restype,
                b.name,
                b.resource_pattern_type,
                b.principal,
                b.host,
                b.operation,
                b.permission_type,
            )
            for b in taken
        ]
        for future in self.admin.delete_acls(filters).values():
            assert len(future.result(10)) == 1
        return grant


def operation_of(right):
    """Return confluent-kafka's name of a right."""
    return AclOperation[right.upper().replace("CONFIGS", "_CONFIGS")]


def _bindings(grant):
    return [
        AclBinding(
            ResourceType[grant.resource.upper()],
            grant.name,
            ResourcePatternType.LITERAL,
            f"User:{grant.app}",
            "*",
            operation_of(right),
            AclPermissionType.ALLOW,
        )
        for right in grant.rights
    ]
