"""Dashboards and alert rules name what there is."""

import json
import re
from pathlib import Path

import promql_parser
import pytest
import yaml

from contract.metrics.definitions import METRICS
from contract.status.status_server import FIRST_PORTS
from contract.wire.dead_letters import REASONS
from contract.wire.topics import BY_NAME
from contract.wire.words import DEGRADED
from trainer.metrics import PHASES
from trainer.reasons import JOINED_RESULTS, WITHHELD

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
LOOPS = {"nextwatch-streams", "nextwatch-trainer", "nextwatch-index-sync"}
JOBS = LOOPS | {"nextwatch-gateway"}
OF_PROMETHEUS = {"up"}
OF_EVERY_SERIES = {"job", "instance", "le"}
BY_SERIES = {name: metric for metric in METRICS for name in metric.series}
WORDS = {*REASONS, *DEGRADED, *WITHHELD, *JOINED_RESULTS, *PHASES, *BY_NAME, "store_unavailable"}
WORDS |= {"progressive", "retrieval", "popularity", "20", "100", "5.."}


def dashboards():
    return [json.loads(path.read_text()) for path in sorted((OPS / "grafana").glob("*.json"))]


def rules():
    groups = yaml.safe_load((OPS / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def targets():
    return [
        target
        for board in dashboards()
        for panel in board["panels"]
        for target in panel.get("targets", [])
    ]


def expressions():
    """Return every query, with Grafana's own interval in place of its variable."""
    found = [target["expr"] for target in targets()] + [rule["expr"] for rule in rules()]
    return [text.replace("$__rate_interval", "1m") for text in found]


def selectors(expression):
    """Yield the vector selectors in a parsed expression."""
    parts = [expression]
    while parts:
        part = parts.pop()
        if isinstance(part, promql_parser.VectorSelector):
            yield part
        inner = [getattr(part, name, None) for name in ("expr", "lhs", "rhs", "vector_selector")]
        parts += [one for one in inner if one is not None]
        parts += list(getattr(part, "args", None) or [])


@pytest.mark.parametrize("text", expressions())
def test_a_query_parses_and_names_metrics_and_labels_that_exist(text):
    """One that does not would be an empty panel, or an alert that never fires."""
    found = list(selectors(promql_parser.parse(text)))

    assert found or "vector(" in text
    for selector in found:
        assert selector.name in BY_SERIES.keys() | OF_PROMETHEUS
        if selector.name in OF_PROMETHEUS:
            continue
        labels = OF_EVERY_SERIES | set(BY_SERIES[selector.name].labels)
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels
            if matcher.name == "job":
                assert any(re.fullmatch(matcher.value, job) for job in JOBS)
            else:
                assert matcher.value in WORDS


def test_the_search_for_selectors_finds_all_that_a_query_names():
    """Else the test above would prove nothing."""
    text = "sum by (a) (rate(x_total{b='c'}[1m])) / on () group_left () max(y) > 3 unless z"
    found = {selector.name for selector in selectors(promql_parser.parse(text))}

    assert found == {"x_total", "y", "z"}


def test_labels_that_are_grouped_by_or_shown_exist():
    """A misspelt one groups everything together."""
    known = OF_EVERY_SERIES | {label for metric in METRICS for label in metric.labels}
    legends = [target["legendFormat"] for target in targets()]
    grouped = re.findall(r"(?:by|on|without) \(([^)]*)\)", " ".join(expressions()))
    shown = re.findall(r"{{ *(\w+) *}}", " ".join(legends))
    told = re.findall(r"\$labels\.(\w+)", str(rules()))

    named = {name.strip() for names in grouped for name in names.split(",") if name.strip()}
    assert named | set(shown) | set(told) <= known


def test_counters_are_never_shown_without_their_rate():
    """The number since the start of a process says nothing."""
    for text in expressions():
        for name in re.findall(r"\w+_total", text):
            assert re.search(rf"(rate|increase)\({name}\b", text), text


def test_every_metric_of_ours_is_on_a_dashboard_or_in_an_alert():
    """What nobody looks at need not be recorded."""
    named = {s.name for text in expressions() for s in selectors(promql_parser.parse(text))}
    unseen = {
        metric.name
        for metric in METRICS
        if not metric.is_standard and not named & set(metric.series)
    }

    assert unseen == {"nextwatch_build_info"}


def test_every_alert_says_how_urgent_it_is_and_what_to_do():
    names = [rule["alert"] for rule in rules()]

    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "action"}


def test_panels_do_not_overlap_and_have_ids_of_their_own():
    for board in dashboards():
        places = [
            (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
            for panel in board["panels"]
            for x in range(panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["h"])
        ]
        ids = [panel["id"] for panel in board["panels"]]

        assert len(places) == len(set(places))
        assert len(ids) == len(set(ids))
        assert max(x for x, _ in places) < 24


def test_dashboards_work_with_any_prometheus():
    """Nothing names a data source of the machine that they were drawn on."""
    sources = {json.dumps(panel.get("datasource")) for b in dashboards() for panel in b["panels"]}

    assert sources <= {"null", json.dumps({"type": "prometheus", "uid": "${datasource}"})}


@pytest.mark.parametrize("name", ["prometheus.yml", "compose.yml"])
def test_the_jobs_of_the_scrapes_are_those_of_the_alerts(name):
    scrapes = yaml.safe_load((OPS / "prometheus" / name).read_text())

    assert {job["job_name"] for job in scrapes["scrape_configs"]} == LOOPS
    assert scrapes["rule_files"] == ["alerts.yml"]


def test_a_machine_is_scraped_on_the_ports_that_its_processes_take():
    scrapes = yaml.safe_load((OPS / "prometheus" / "prometheus.yml").read_text())
    ports = {
        int(target.rpartition(":")[2])
        for job in scrapes["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }

    assert ports == set(FIRST_PORTS.values())


def test_services_are_scraped_where_they_serve_and_publish_no_such_port():
    """Metrics stay in the network of the containers."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    scrapes = yaml.safe_load((OPS / "prometheus" / "compose.yml").read_text())
    for job in scrapes["scrape_configs"]:
        [found] = job["dns_sd_configs"]
        [service] = found["names"]
        group = "INDEX" if service == "index_sync" else service.upper()
        environment = services[service]["environment"]

        assert environment[f"NEXTWATCH_{group}_HTTP_PORT"] == str(found["port"])
        assert environment[f"NEXTWATCH_{group}_HTTP_HOST"] == "0.0.0.0"
        assert services[service]["expose"] == [str(found["port"])]
        assert "ports" not in services[service]
