"""Write the descriptions that MLflow's pages show for experiments, runs, the registered model and its versions, in Markdown."""

import re
from collections.abc import Mapping
from typing import Any, Final

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_EXPERIMENT_PRIMARY_METRIC_NAME, MLFLOW_RUN_NOTE

from shared.batch import Batch
from shared.mlflow_names import DATASET_EXPERIMENT, HOLDOUT_SET, MODEL_EXPERIMENT, TEST_SET, Tag

# The tag with which MLflow's pages choose between the view for model training and the view for generative AI, and its value for
# model training (the values are in MLflow's JavaScript). The pages of MLflow 3.17 ignore the tag: the reader chooses the view with a
# switch at the top left, which `rakuten up` names.
_KIND: Final = {"mlflow.experimentKind": "custom_model_development"}

EXPERIMENT_TAGS: Final = {
    DATASET_EXPERIMENT: {
        **_KIND,
        MLFLOW_RUN_NOTE: (
            "One run per batch (a week or a correction): the class-balanced training set as a parquet file, its digests and a "
            f"figure of its classes. Two more runs hold the fixed sets: `{HOLDOUT_SET}`, on which every model is evaluated, and "
            f"`{TEST_SET}`, which has no labels. Only the snapshot listener writes here."
        ),
    },
    MODEL_EXPERIMENT: {
        **_KIND,
        MLFLOW_EXPERIMENT_PRIMARY_METRIC_NAME: "f1_score",
        MLFLOW_RUN_NOTE: (
            "One run per batch: the model that was trained on the dataset of the batch, its scores on the holdout with 95 % "
            "intervals, its predictions, and the decision about its promotion. Only the training listener writes here. The step "
            "of each metric is the week, so a comparison of runs draws the trend."
        ),
    },
}
REGISTERED_MODEL: Final = (
    "Predicts the product class (`prdtypecode`) from the title and the description, with TF-IDF and a linear support vector "
    "machine. One version per batch. The alias `champion` names the version in use; `rakuten champion` shows its history, and "
    "`rakuten rollback` moves it back."
)
# The sentence in the description of a model's run that `with_verdict` replaces: the run is finished before it is compared.
VERDICT_PENDING: Final = (
    "The comparison with the champion follows the end of this run: see `{}` among its artifacts."
)
_ANY_PENDING: Final = re.compile(re.escape(VERDICT_PENDING).replace(r"\{\}", "[a-z0-9_.]+"))


def with_verdict(description: str, verdict: Mapping[str, Any], artifact: str) -> str:
    """Return the description of a model's run with the verdict in place of the sentence that it follows.

    Args:
        description: of the run, which may have its verdict already.
        verdict: the content of the artifact with the comparison.
        artifact: the name of the artifact.
    """
    outcome = "**Became champion**" if verdict["promote"] else "**Did not become champion**"
    against = (
        f" (compared with version {verdict['champion_version']})" if "champion_version" in verdict else ""
    )
    said = f"{outcome}{against}: {verdict['reason']}. The whole comparison is in `{artifact}`."
    return _ANY_PENDING.sub(lambda _: said, description)


def dataset_run(name: str, batch: Batch, stats: dict[str, Any]) -> str:
    """Describe the run of a batch's dataset. `stats` is what `listeners.snapshot.local.build` returns."""
    return (
        f"**{name}**: {stats['distinct_products']:,} products in {len(stats['classes'])} classes, balanced to "
        f"{stats['total_rows']:,} rows by repeating products of small classes. {stats['held_out_products']:,} products of the batch "
        f"are held out and not in this file.\n\n{_origin(batch)}"
    )


def model_run(batch: Batch, dataset: Run, metrics: dict[str, float]) -> str:
    """Describe the run of a batch's model: what it was trained on, and how well it predicts the holdout."""
    experiment, run_id = dataset.info.experiment_id, dataset.info.run_id
    link = f"[{dataset.info.run_name}](#/experiments/{experiment}/runs/{run_id})"
    warning = "" if metrics.get("converged", 1) else "**The training stopped before it had converged.**\n\n"
    return (
        f"{warning}**F1 {metrics['f1_score']:.4f}** on the holdout, weighted by class size (95 % interval {metrics['f1_score_ci_low']:.4f} "
        f"to {metrics['f1_score_ci_high']:.4f}); mean of the classes {metrics['f1_macro']:.4f}; accuracy {metrics['accuracy']:.4f}."
        f"\n\nTrained on {link}, {int(dataset.data.params['total_rows']):,} rows.\n\n{_origin(batch)}"
    )


def model_version(run: Run) -> str:
    """Describe the version of the registered model that was made from a training run."""
    metrics = run.data.metrics
    return (
        f"{run.info.run_name}: F1 {metrics['f1_score']:.4f} on the holdout (95 % interval {metrics['f1_score_ci_low']:.4f} to "
        f"{metrics['f1_score_ci_high']:.4f}), trained on {run.data.tags[Tag.DATASET_NAME]}."
    )


def _origin(batch: Batch) -> str:
    return (
        f"Batch {batch.id} ({batch.name}), number {batch.chain_number} in the hash chain, completed "
        f"{batch.completed_at:%Y-%m-%d %H:%M} UTC. Its seal is `{batch.seal}`."
    )
