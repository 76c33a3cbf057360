"""The demo says what takes long, and for how long."""

import io

import pytest
from rich.console import Console

from rakuten.progress import Progress


@pytest.fixture
def clock():
    return [0.0]


def progress_on(clock, *, terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=130)
    return console, Progress(console, clock=lambda: clock[0])


def row(snapshot="waiting", training="waiting", error=None):
    columns = (
        "percentage",
        "status",
        "total_rows",
        "new_rows",
        "snapshot_rows",
        "f1_score",
        "became_champion",
    )
    seconds = ("commit_to_wake_s", "commit_to_dataset_s", "commit_to_model_s")
    states = {"snapshot_state": snapshot, "training_state": training}
    return {
        **dict.fromkeys((*columns, *seconds)),
        **states,
        "batch_name": "week_1",
        "status": "running",
        "snapshot_error": error,
        "training_error": None,
    }


def shown(console, progress):
    with console.capture() as capture:
        console.print(progress)
    return capture.get()


def test_a_terminal_shows_a_long_step_with_its_seconds(clock):
    console, progress = progress_on(clock, terminal=True)
    progress.begin("week_1: loading the rows")
    clock[0] = 9.0
    assert "loading" not in shown(console, progress)
    clock[0] = 11.0
    assert "week_1: loading the rows, for 11 s" in shown(console, progress)
    progress.show([row("running")])
    assert "for" not in shown(console, progress)
    clock[0] = 23.0
    assert "week_1: building the dataset, for 12 s" in shown(console, progress)
    progress.show([row("finished", "running")])
    clock[0] = 40.0
    assert "week_1: training the model, for 17 s" in shown(console, progress)
    progress.show([row("finished", "finished")])
    clock[0] = 100.0
    assert "for" not in shown(console, progress)


def test_a_file_gets_a_line_after_10_20_and_40_seconds(clock):
    console, progress = progress_on(clock, terminal=False)
    for second in range(50):
        clock[0] = float(second)
        progress.show([row("running", error="a [bold] error")])
    step = "week_1: building the dataset again after: a [bold] error"
    assert console.file.getvalue().splitlines() == [f"{step}, for {seconds} s" for seconds in (10, 20, 40)]
