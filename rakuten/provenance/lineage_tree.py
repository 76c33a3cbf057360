"""Draw a lineage as a tree, from the source files through the batches and datasets to the model versions."""

from typing import Any

from rich.markup import escape
from rich.tree import Tree

from rakuten.provenance.references import ReferenceKind
from shared.logs import printable

_DIGEST_SHOWN = 12
_MARK = "  [bold cyan]◀[/bold cyan]"
_MISSING_RUNS = {
    "MISSING": "MLflow has no such run",
    "DELETED": "deleted in MLflow",
    "SUPERSEDED": "superseded: another run is the recorded one",
    "UNKNOWN": "MLflow is unavailable",
}
_UNFINISHED_STAGES = {"waiting": "not built yet", "running": "running", "failed": "given up"}


def tree_of(document: dict[str, Any]) -> Tree:
    """Draw a lineage as a tree. An arrow marks the item that the user asked for.

    `document` is the result of `rakuten.provenance.lineage.lineage`.
    """
    reference, product = document["reference"], document["product"]
    if product is not None:
        tree = Tree(f"product {product['productid']}{_MARK}")
        _add_history(tree, product["history"])
        batches = document["batches"]
        node = tree.add(f"in {_counted(len(batches), 'dataset')}")
    else:
        tree = node = Tree(_source(document["source"]))
        for file in (document["source"] or {}).get("files", []):
            node.add(_file(file))
    for batch in document["batches"]:
        _add_batch(node, batch, reference)
    if document["later"]:
        tree.add(f"{', '.join(document['later'])}  [dim]build on it[/dim]")
    if document["mlflow"]:
        tree.add(f"[red]{_escaped(document['mlflow'])}[/red]")
    return tree


def _source(source: dict[str, Any] | None) -> str:
    if source is None:
        return "a source that this database does not know"
    return f"source files  [dim]seed {source['random_seed']}, holdout {source['holdout_percentage']} %[/dim]"


def _file(file: dict[str, Any]) -> str:
    return f"{_escaped(file['name'])}  [dim]sha256 {_short(file['sha256'])}[/dim]"


def _add_history(tree: Tree, history: list[dict[str, Any]]) -> None:
    node = tree.add("history")
    for entry in history:
        where = entry["batch_name"] or "no batch yet"
        if entry["outside_any_batch"]:
            where = f"outside any batch, seen by {where}" if entry["batch_name"] else "outside any batch"
        what = (
            f"label {entry['prdtypecode']}"
            if entry["table_name"] == "labels"
            else f"{entry['split']}: {_escaped(entry['designation'] or '')}"
        )
        who = _escaped(f"{entry['changed_by']} ({entry['application'] or 'unnamed program'})")
        node.add(f"{_moment(entry['operation_date'])} {entry['operation_type']} {where} by {who}: {what}")


def _add_batch(tree: Tree, batch: dict[str, Any], reference: dict[str, Any]) -> None:
    mark = reference["kind"] == ReferenceKind.BATCH and batch["batch_id"] == reference["batch_id"]
    node = tree.add(_line(batch["batch_name"] or "?", _batch_facts(batch), mark=mark))
    for file in batch["files"]:
        node.add(_file(file))
    if batch["dataset"] is not None:
        _add_dataset(node, batch["dataset"], reference)


def _batch_facts(batch: dict[str, Any]) -> list[str]:
    """Return texts that say what a batch loaded, when and by whom, and the first digits of its seal (a digest)."""
    facts = []
    if batch["new_rows"] is not None:
        facts.append(_counted(batch["new_rows"], "new row"))
    if batch["corrections"] is not None:
        reason = f" “{_escaped(batch['reason'])}”" if batch["reason"] else ""
        facts.append(_counted(batch["corrections"], "correction") + reason)
    if batch["changes_outside"]:
        facts.append(f"{_counted(batch['changes_outside'], 'change')} from outside any batch")
    if batch["completed_at"] is not None:
        facts.append(_moment(batch["completed_at"]))
    if batch["loaded_by"]:
        facts.append(_escaped(f"by {batch['loaded_by']} ({batch['application'] or 'unnamed program'})"))
    if batch["seal"]:
        facts.append(f"seal {_short(batch['seal'])}")
    if not batch["known"]:
        facts.append("[yellow]not a batch of this database[/yellow]")
    return facts


def _add_dataset(tree: Tree, dataset: dict[str, Any], reference: dict[str, Any]) -> None:
    facts = []
    if dataset["rows"] is not None:
        facts.append(_counted(dataset["rows"], "row"))
    facts += [f"{name} {_short(dataset[name])}" for name in ("sha256", "digest") if dataset[name]]
    facts += _run_facts(dataset)
    node = tree.add(_line(dataset["name"], facts, mark=reference["kind"] == ReferenceKind.DATASET))
    if reference["kind"] == ReferenceKind.FILE and reference["run_id"] == dataset["run_id"]:
        node.add(_requested_file(reference))
    if dataset["run_id"] is not None or dataset["model"]["run_id"] is not None:
        _add_model(node, dataset, reference)


def _add_model(tree: Tree, dataset: dict[str, Any], reference: dict[str, Any]) -> None:
    model = dataset["model"]
    scores, facts = model["metrics"], []
    if {"f1_score", "f1_score_ci_low", "f1_score_ci_high"} <= scores.keys():
        interval = f"{scores['f1_score_ci_low']:.3f}-{scores['f1_score_ci_high']:.3f}"
        facts.append(f"F1 {scores['f1_score']:.3f} ({interval})")
    if "accuracy" in scores:
        facts.append(f"accuracy {scores['accuracy']:.3f}")
    facts += _run_facts(model)
    if model["dataset_run_id"] not in {None, dataset["run_id"]}:
        facts.append(f"trained from run {model['dataset_run_id']}")
    node = tree.add(_line(model["name"], facts, mark=reference["kind"] == ReferenceKind.MODEL))
    for version in model["versions"]:
        aliases = "".join(f" [bold green]@{_escaped(alias)}[/bold green]" for alias in version["aliases"])
        node.add(f"{version['name']} version {version['version']}{aliases}")
    if model["state"] == "finished" and not model["versions"]:
        node.add("[red]not in the registry[/red]")
    if reference["kind"] == ReferenceKind.FILE and reference["run_id"] == model["run_id"]:
        node.add(_requested_file(reference))


def _run_facts(step: dict[str, Any]) -> list[str]:
    """Return facts about a stage's MLflow run: the run's id, and the reason if the run is missing or unfinished."""
    facts = []
    if step["run_id"] is not None:
        facts.append(f"run {step['run_id']}")
    status = step["run_status"]
    if status in _MISSING_RUNS:
        facts.append(f"[red]{_MISSING_RUNS[status]}[/red]")
    elif status not in {None, "FINISHED"}:
        facts.append(f"[red]{status}[/red]")
    if step["state"] in _UNFINISHED_STAGES:
        reason = f": {_escaped(step['error'])}" if step["error"] else ""
        facts.append(f"[yellow]{_UNFINISHED_STAGES[step['state']]}{reason}[/yellow]")
    return facts


def _requested_file(reference: dict[str, Any]) -> str:
    also = f", also in {', '.join(reference['also_in'])}" if reference["also_in"] else ""
    return f"{_escaped(reference['artifact'])}  [dim]sha256 {_short(reference['sha256'])}{also}[/dim]{_MARK}"


def _line(name: str, facts: list[str], *, mark: bool) -> str:
    return f"[bold]{_escaped(name)}[/bold]  [dim]{', '.join(facts)}[/dim]{_MARK if mark else ''}"


def _escaped(text: str) -> str:
    return escape(printable(text))


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _short(digest: str) -> str:
    return digest[:_DIGEST_SHOWN]


def _moment(moment: Any) -> str:
    """Return a UTC time as text, to the second. The time is a datetime from PostgreSQL or the text of a tag in MLflow."""
    return str(moment)[:19].replace("T", " ")
