"""ops/helm/nextwatch renders to what Kubernetes takes, and the processes to what they know."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

from contract.process.settings import load
from contract.version import VERSION
from contract.wire.topics import BY_NAME, Layout
from nextwatch import settings_reference
from nextwatch.gateway.server import drain_s
from nextwatch.gateway.settings import GatewaySettings

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
CHART = ROOT / "ops" / "helm" / "nextwatch"
ABOUT = yaml.safe_load((CHART / "Chart.yaml").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
KUBERNETES = ("1.27", "1.30", "1.33", "1.37")
CUSTOM = {each.__name__: each for each in (ScaledObject, TriggerAuthentication, ServiceMonitor)}
"""Kinds of KEDA and of the Prometheus operator, as models made from their CRDs."""

SECURED = {
    "kafka": {
        "bootstrapServers": "a:9093,b:9093",
        "topicPrefix": "shop-",
        "securityProtocol": "SASL_SSL",
        "saslMechanism": "SCRAM-SHA-512",
        "saslSecret": {"name": "kafka-user"},
        "caSecret": {"name": "kafka-ca"},
        "clientCertificateSecret": {"name": "kafka-client"},
    },
    "qdrant": {"url": "https://qdrant.example:6333", "apiKeySecret": {"name": "qdrant"}},
    "autoscaling": {"enabled": True},
    "gateway": {"enabled": True, "apiKeySecret": {"name": "gateway"}},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "image": {"digest": "sha256:" + "a" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "settings": {"NEXTWATCH_WINDOW_MAX_WATCHES": "40"},
    "streams": {"settings": {"NEXTWATCH_STREAMS_NUM_RECOMMENDED": "30"}},
    "trainer": {"settings": {"NEXTWATCH_TRAINER_MODEL": "sasrec"}, "nodeSelector": {"disk": "ssd"}},
}
SMALL = {
    "autoscaling": {"enabled": True},
    "bundles": {"url": "s3://models/nextwatch"},
    "trainer": {"enabled": False},
    "topics": {"create": False},
    "networkPolicy": {"metricsFrom": []},
    "serviceAccount": {"create": False},
}
CASES = {"defaults": {}, "secured": SECURED, "small": SMALL}


@pytest.fixture(scope="session")
def helm(tmp_path_factory):
    """Run helm with arguments and *values*, and return what it did."""
    beside = Path(sys.executable).with_name("helm")
    program = str(beside) if beside.exists() else shutil.which("helm")
    if program is None:
        if "helm" in os.environ.get("NEXTWATCH_TEST_REQUIRE", ""):
            pytest.fail("helm is not installed")
        pytest.skip("helm is not installed: `make helm` builds it where there is Go")
    home = tmp_path_factory.mktemp("helm")
    env = {**os.environ, **{f"HELM_{name}_HOME": str(home) for name in ("CACHE", "CONFIG", "DATA")}}

    def run(*args, values=None):
        file = home / "values.yaml"
        file.write_text(yaml.safe_dump(values or {}))
        argv = (program, *args, "--values", str(file))
        return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)

    return run


@pytest.fixture(scope="session")
def rendered(helm):
    """What the chart makes of each of `CASES`."""
    found = {}
    for name, values in CASES.items():
        done = helm("template", "shop", str(CHART), "--namespace", "video", values=values)
        assert done.returncode == 0, done.stderr
        found[name] = [each for each in yaml.safe_load_all(done.stdout) if each]
    return found


@pytest.fixture(params=sorted(CASES))
def resources(request, rendered):
    return rendered[request.param]


def _pods(resources):
    """Yield the name and the pod of each resource that starts one."""
    for each in resources:
        if each["kind"] == "Pod":
            yield each["metadata"]["name"], each["spec"], each["metadata"]["labels"]
        elif "template" in each.get("spec", {}):
            template = each["spec"]["template"]
            yield each["metadata"]["name"], template["spec"], template["metadata"]["labels"]


def _one(resources, kind, name):
    [found] = [
        each for each in resources if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return found


def _env(container):
    return {each["name"]: each for each in container["env"]}


def test_the_chart_bears_the_version_of_the_image_that_it_runs():
    assert (ABOUT["version"], ABOUT["appVersion"]) == (VERSION, VERSION)


def test_the_defaults_fit_the_schema_of_values_which_knows_each_of_them():
    """A misspelt value is rejected, and not ignored."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(VALUES, schema)

    assert set(schema["properties"]) - {"global"} == set(VALUES)


def test_helm_finds_nothing_to_complain_of(helm):
    done = helm("lint", "--strict", str(CHART))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_resource(resources, version):
    """By its own schemas, in which an unknown field is an error."""
    for each in resources:
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, version, strict=True)


def test_keda_and_the_prometheus_operator_take_theirs(rendered):
    """A field that a CRD does not have would not come back from its model."""
    seen = set()
    for each in rendered["secured"]:
        if model := CUSTOM.get(each["kind"]):
            given = json.loads(json.dumps(each))
            taken = model.model_validate(given).model_dump(
                mode="json", by_alias=True, exclude_unset=True
            )
            seen.add(each["kind"])

            assert taken == given
    assert seen == set(CUSTOM)


def test_every_name_is_unique(resources):
    names = [(each["kind"], each["metadata"]["name"]) for each in resources]

    assert len(names) == len(set(names))


def test_no_process_is_given_a_setting_that_it_does_not_know(resources):
    """An unknown variable stops the start; so would the links that Kubernetes adds by itself."""
    known = {
        group.model_config.get("env_prefix", "") + field.upper()
        for group in settings_reference.GROUPS
        for field in group.model_fields
    }
    for name, pod, _ in _pods(resources):
        given = [each["name"] for each in pod["containers"][0]["env"]]

        assert set(given) <= known, name
        assert len(given) == len(set(given)), name
        assert pod["enableServiceLinks"] is False


def test_no_pod_runs_as_root_or_can_write_but_to_its_volumes(resources):
    for name, pod, _ in _pods(resources):
        [container] = pod["containers"]

        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert {each["name"] for each in container["volumeMounts"]} <= {
            *(each["name"] for each in pod["volumes"]),
            *("state", "checkpoints"),
        }


def test_every_process_is_restarted_by_its_health_and_rolled_out_by_its_readiness(resources):
    for name, pod, labels in _pods(resources):
        [container] = pod["containers"]
        if labels["app.kubernetes.io/component"] in {"topics", "doctor"}:
            continue

        [port] = container["ports"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port["name"]}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
        [variable] = [each for each in _env(container) if each.endswith("_PORT")]
        assert _env(container)[variable]["value"] == str(port["containerPort"]), name


def test_secrets_are_named_and_never_shown(rendered):
    """A chart's values are kept in the cluster and in repositories."""
    for _, pod, _ in _pods(rendered["secured"]):
        env = _env(pod["containers"][0])

        for variable in ("KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD", "QDRANT_API_KEY"):
            assert set(env[f"NEXTWATCH_{variable}"]) == {"name", "valueFrom"}
        assert env["NEXTWATCH_KAFKA_SSL_CA_LOCATION"]["value"] == "/etc/nextwatch/ca/ca.crt"
        assert {"ca", "client"} <= {each["name"] for each in pod["volumes"]}


def _grace_s(helm, values):
    given = {"gateway": {"enabled": True, **values.get("gateway", {})}}
    done = helm("template", "shop", str(CHART), values={**values, **given})
    assert done.returncode == 0, done.stderr
    gateway = _one(
        [each for each in yaml.safe_load_all(done.stdout) if each],
        *("Deployment", "shop-nextwatch-gateway"),
    )
    pod = gateway["spec"]["template"]["spec"]
    [container] = pod["containers"]
    _, pre_stop_s = container["lifecycle"]["preStop"]["exec"]["command"]
    given_ms = _env(container).get("NEXTWATCH_GATEWAY_ACK_WITHIN_MS", {}).get("value")
    environ = {} if given_ms is None else {"NEXTWATCH_GATEWAY_ACK_WITHIN_MS": given_ms}
    settings = load(GatewaySettings, environ)
    return pod["terminationGracePeriodSeconds"], int(pre_stop_s) + drain_s(settings)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"gateway": {"settings": {"NEXTWATCH_GATEWAY_ACK_WITHIN_MS": "25000"}}},
        {"settings": {"NEXTWATCH_GATEWAY_ACK_WITHIN_MS": "60000"}},
        {
            "settings": {"NEXTWATCH_GATEWAY_ACK_WITHIN_MS": "100"},
            "gateway": {"settings": {"NEXTWATCH_GATEWAY_ACK_WITHIN_MS": "60000"}},
        },
    ],
)
def test_the_gateway_has_time_to_answer_what_waits_for_an_acknowledgement(helm, values):
    """Else a pod is killed before its clients know whether their events are in Kafka."""
    grace_s, needed_s = _grace_s(helm, values)

    assert grace_s >= needed_s + 5


def test_each_streams_worker_has_a_name_a_membership_and_a_volume(rendered):
    """A container that is replaced gets its partitions and its windows back."""
    streams = _one(rendered["defaults"], "StatefulSet", "shop-nextwatch-streams")
    [container] = streams["spec"]["template"]["spec"]["containers"]
    env = _env(container)
    [claim] = streams["spec"]["volumeClaimTemplates"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}

    assert env["NEXTWATCH_STREAMS_INSTANCE_ID"]["valueFrom"] == {
        "fieldRef": {"fieldPath": "metadata.name"}
    }
    assert mounts[claim["metadata"]["name"]] == env["NEXTWATCH_STREAMS_STATE_DIR"]["value"]
    assert streams["spec"]["replicas"] == VALUES["streams"]["replicas"]


def test_trainer_and_index_sync_never_run_twice(rendered):
    """Of two trainers the second would end; two index_sync would work against each other."""
    trainer = _one(rendered["defaults"], "StatefulSet", "shop-nextwatch-trainer")
    index_sync = _one(rendered["defaults"], "Deployment", "shop-nextwatch-index-sync")

    assert trainer["spec"]["replicas"] == index_sync["spec"]["replicas"] == 1
    assert index_sync["spec"]["strategy"] == {"type": "Recreate"}


def test_only_the_trainer_writes_to_the_bundles(rendered):
    written = {
        labels["app.kubernetes.io/component"]: mount.get("readOnly")
        for _, pod, labels in _pods(rendered["defaults"])
        for mount in pod["containers"][0]["volumeMounts"]
        if mount["name"] == "bundles"
    }

    assert written == {"streams": True, "index-sync": True, "trainer": False}


def test_a_store_by_url_needs_no_volume(rendered):
    for _, pod, _ in _pods(rendered["small"]):
        env = _env(pod["containers"][0])

        assert env["NEXTWATCH_PROCESS_BUNDLE_URL"]["value"] == "s3://models/nextwatch"
        assert "bundles" not in {each["name"] for each in pod["volumes"]}
    assert "PersistentVolumeClaim" not in {each["kind"] for each in rendered["small"]}


def test_keda_scales_streams_by_the_lag_of_its_group_up_to_the_partitions(rendered):
    """The number of workers is then its own: a set number would undo it with each upgrade."""
    scaled = _one(rendered["secured"], "ScaledObject", "shop-nextwatch-streams")["spec"]
    streams = _one(rendered["secured"], "StatefulSet", "shop-nextwatch-streams")
    layout = Layout(prefix="shop-")
    topics = [each["metadata"]["topic"] for each in scaled["triggers"]]

    assert "replicas" not in streams["spec"]
    assert scaled["scaleTargetRef"]["name"] == streams["metadata"]["name"]
    assert scaled["maxReplicaCount"] <= VALUES["kafka"]["userPartitions"]
    assert {each["metadata"]["consumerGroup"] for each in scaled["triggers"]} == {
        layout.streams_group
    }
    assert set(topics) <= {
        layout.name(topic) for topic in BY_NAME.values() if "streams" in topic.consumers
    }
    assert {each["metadata"]["sasl"] for each in scaled["triggers"]} == {"scram_sha512"}


def test_a_large_number_is_written_as_digits(helm):
    """Helm reads numbers as floats, and writes a million as 1e+06."""
    values = {"autoscaling": {"enabled": True, "lagThreshold": 1_000_000}}
    done = helm("template", "shop", str(CHART), values=values)

    assert 'lagThreshold: "1000000"' in done.stdout


def test_a_gateway_answers_until_its_service_has_noticed_that_it_leaves(rendered):
    [container] = _one(rendered["secured"], "Deployment", "shop-nextwatch-gateway")["spec"][
        "template"
    ]["spec"]["containers"]

    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]


def test_what_selects_pods_selects_some(rendered):
    """A budget or a policy of nobody protects nobody."""
    pods = [labels for _, _, labels in _pods(rendered["secured"])]
    services = [each for each in rendered["secured"] if each["kind"] == "Service"]
    for each in rendered["secured"]:
        spec = each.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector")
        if each["kind"] == "Service":
            selector = {"matchLabels": selector}
        if not selector:
            continue
        targets = [service["metadata"]["labels"] for service in services]
        if each["kind"] == "ServiceMonitor":
            ports = [one["name"] for service in services for one in service["spec"]["ports"]]
            assert {one["port"] for one in spec["endpoints"]} <= set(ports)
        found = targets if each["kind"] == "ServiceMonitor" else pods

        assert [one for one in found if selector["matchLabels"].items() <= one.items()], each


def test_prometheus_scrapes_each_process_as_the_job_that_alerts_and_dashboards_know(rendered):
    """An alert about a job of another name never fires."""
    text = (ROOT / "ops" / "prometheus" / "prometheus.yml").read_text()
    [monitor] = [each for each in rendered["secured"] if each["kind"] == "ServiceMonitor"]
    jobs = {
        each["metadata"]["labels"][monitor["spec"]["jobLabel"]]
        for each in rendered["secured"]
        if each["kind"] == "Service"
    }
    authorizations = [one.get("authorization") for one in monitor["spec"]["endpoints"]]

    assert jobs == set(re.findall(r"job_name: (\S+)", text))
    assert authorizations == [None, {"credentials": {"name": "gateway", "key": "api-key"}}]


def test_nobody_connects_to_a_process_but_who_scrapes_it(rendered):
    [policy] = [each for each in rendered["defaults"] if each["kind"] == "NetworkPolicy"]
    [alone] = [each for each in rendered["small"] if each["kind"] == "NetworkPolicy"]
    [rule] = policy["spec"]["ingress"]

    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert rule["from"] == VALUES["networkPolicy"]["metricsFrom"]
    assert alone["spec"]["ingress"] == []
    ports = {port["port"] for each in policy["spec"]["egress"] for port in each["ports"]}
    assert ports == {53, 9092, 6333}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"streams": {"replicas": 9}}, "streams.replicas is 9, and only kafka.userPartitions (8)"),
        ({"autoscaling": {"enabled": True, "maxReplicas": 9}}, "autoscaling.maxReplicas is 9"),
        ({"kafka": {"securityProtocol": "SASL_SSL"}}, "kafka.saslMechanism is required"),
        ({"stream": {"replicas": 2}}, "stream"),
        ({"settings": {"BROKER": "a"}}, "BROKER"),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 4}},
            "autoscaling.minReplicas is 5, and autoscaling.maxReplicas only 4",
        ),
        ({"autoscaling": {"enabled": True, "topics": None}}, "autoscaling.topics names no topic"),
        ({"networkPolicy": {"egress": [{"ports": [99_999]}]}}, "/networkPolicy/egress/0/ports"),
        (
            {"streams": {"settings": {"NEXTWATCH_STREAMS_HTTP_PORT": "9"}}},
            "NEXTWATCH_STREAMS_HTTP_PORT",
        ),
    ],
)
def test_values_that_could_not_work_are_rejected_with_their_name(helm, values, reason):
    done = helm("template", "shop", str(CHART), values=values)

    assert done.returncode != 0
    assert reason in done.stderr


def test_a_setting_that_the_chart_makes_of_other_values_is_rejected(rendered):
    """It would be there twice, and the last one wins: probes would ask another port, for one."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    names = {
        name
        for each in rendered.values()
        for _, pod, _ in _pods(each)
        for container in pod["containers"]
        for name in _env(container)
    }
    given = {"NEXTWATCH_WINDOW_MAX_WATCHES", "NEXTWATCH_STREAMS_NUM_RECOMMENDED"}
    given |= {"NEXTWATCH_TRAINER_MODEL", "NEXTWATCH_TRAINER_NICENESS"}

    made = set(schema["definitions"]["setByChart"]["enum"])
    assert {name for name in names if name not in made} <= given
    assert made <= names


def test_the_page_on_deploying_names_values_that_there_are():
    """`kafka.userPartitions` on the page can be set."""
    section = (ROOT / "docs" / "deploy.md").read_text().partition("## Kubernetes")[2]
    named = re.findall(r"`((?:\w+\.)+\w+)`", section.partition("\n## ")[0])
    values = [name for name in named if name.split(".")[0] in VALUES]

    assert values
    for name in values:
        found = VALUES
        for part in name.split("."):
            assert part in found, name
            found = found[part]
