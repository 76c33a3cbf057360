"""Build the sections of the report's page from the facts."""

from rakuten.report.parts import Section
from rakuten.report.sections import data, models, operations
from rakuten.report.tables import Facts


def sections_of(facts: Facts) -> list[Section]:
    """Return all sections in the order of the page."""
    return [
        data.rows(facts),
        data.classes(facts),
        models.scores(facts),
        models.scores_by_class(facts),
        models.champion(facts),
        data.drift(facts),
        data.suspects(facts),
        operations.latencies(facts),
        operations.attempts(facts),
        operations.storage(facts),
        operations.problems(facts),
    ]
