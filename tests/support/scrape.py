"""Read a page of metrics as Prometheus does."""

from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families


def samples(text):
    """Each value by the metric's name and its labels."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(port, timeout_s=30.0):
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout_s) as answer:
        return samples(answer.read().decode())
