"""Read a page of metrics with Prometheus' own parser."""

from collections import Counter

import httpx
from prometheus_client.parser import text_string_to_metric_families


class MetricsPage:
    """The samples of one scrape."""

    def __init__(self, text):
        self.families = list(text_string_to_metric_families(text))
        self._values = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __contains__(self, name):
        return any(name == found for found, _ in self._values)

    def value(self, name, **labels):
        """Return the value of one series."""
        return self._values[name, frozenset(labels.items())]

    def total(self, name, **labels):
        """Return the sum of the series that have *labels* among theirs."""
        wanted = labels.items()
        return sum(v for (found, has), v in self._values.items() if found == name and wanted <= has)

    def by_label(self, name, label):
        """Return the sums that are not zero, by one label."""
        found = Counter()
        for (each, has), value in self._values.items():
            if each == name:
                found[dict(has)[label]] += value
        return {key: value for key, value in found.items() if value}

    @property
    def names(self):
        """The names of the series."""
        return {name for name, _ in self._values}


def scraped(url):
    """Return the page at *url*, which is without its path."""
    answer = httpx.get(f"{url}/metrics", timeout=5)
    assert answer.status_code == 200
    return MetricsPage(answer.text)
