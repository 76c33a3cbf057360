"""Tables fit the terminal with their important columns whole; what is piped is never cut."""

import io
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.live import Live

from rakuten import console as module
from rakuten.commands.champion import _COLUMNS as _CHAMPION_COLUMNS
from rakuten.commands.diff import _table as diff_table
from rakuten.commands.status import _COLUMNS, _LEDGER_COLUMNS, status_table
from rakuten.console import fitting_table, print_table, short_id
from rakuten.provenance.diff import ClassDiff
from shared.categories import CATEGORIES

WIDTHS = (60, 80, 120, 200)
STATUS = {
    "batch_name": "correction_1",
    "status": "completed",
    "percentage": 100,
    "total_rows": 84_916,
    "new_rows": 33_966,
    "snapshot_rows": 248_184,
    "snapshot_state": "finished",
    "training_state": "finished",
    "f1_score": 0.7604,
    "f1_score_ci_low": 0.7521,
    "f1_score_ci_high": 0.7689,
    "commit_to_wake_s": 0.012,
    "commit_to_dataset_s": 13.6,
    "commit_to_model_s": 117.6,
    "became_champion": True,
}
LEDGER = {
    "batch_name": "correction_1",
    "stage": "snapshot",
    "state": "finished",
    "wake": "reconnect",
    "ready_to_wake_s": 0.012,
    "wake_to_claim_s": 0.003,
    "claim_to_done_s": 117.6,
    "attempts": 2,
    "failures": 1,
    "outages": 4,
}

MOVE = SimpleNamespace(
    at=datetime(2026, 11, 30, 9, 15, tzinfo=UTC),
    from_version=12,
    to_version=9,
    kind="promotion",
    by="rakuten training listener",
    reason="half of the labels of week 3 are wrong, so the model of week 2 is used until they are corrected",
)


def drawn(table, width):
    output = Console(file=io.StringIO(), width=width)
    output.print(table)
    return output.file.getvalue().splitlines()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("columns", "row"), [(_COLUMNS, STATUS), (_LEDGER_COLUMNS, LEDGER), (_CHAMPION_COLUMNS, MOVE)]
)
def test_a_table_fits_and_shows_whole_what_it_shows(columns, row, width):
    lines = drawn(fitting_table(columns, [row], width, caption="seconds"), width)
    assert max(map(len, lines)) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(lines)
    for column in columns:
        if column.rank == 0 and not column.wraps:
            assert column.cell(row) in "".join(lines)
    hidden = [column.heading for column in columns if column.heading not in lines[1]]
    assert all(name in " ".join(" ".join(lines).split()) for name in hidden)


def test_a_wide_terminal_shows_every_column():
    heading = drawn(status_table([STATUS], 120), 120)[1]
    assert all(column.heading in heading for column in _COLUMNS)


def test_numbers_are_right_aligned_with_separators():
    smaller = STATUS | {"total_rows": 120, "snapshot_rows": None, "snapshot_state": "waiting"}
    lines = drawn(status_table([STATUS, smaller], 120), 120)
    [large] = [line for line in lines if "84,916" in line]
    [small] = [line for line in lines if " 120 " in line]
    assert large.index("84,916") + len("84,916") == small.index("120") + len("120")


def test_piped_output_has_every_column_on_one_line(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    print_table(_COLUMNS, [STATUS], caption="seconds")
    lines = capsys.readouterr().out.splitlines()
    assert all(column.heading in lines[1] for column in _COLUMNS)
    assert all(column.cell(STATUS) in lines[3] for column in _COLUMNS)


def test_wide_shows_every_column_on_a_narrow_terminal(monkeypatch):
    terminal = Console(file=io.StringIO(), width=60, force_terminal=True)
    monkeypatch.setattr(module, "wide_console", lambda: terminal)
    print_table(_COLUMNS, [STATUS], wide=True, caption="seconds")
    assert all(column.heading in terminal.file.getvalue().splitlines()[1] for column in _COLUMNS)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_difference_of_two_batches_fits(width):
    rows = [
        ClassDiff(code, added=1234, changed=56, removed=7, text=50, image=0, label=6, split=0)
        for code in (*CATEGORIES, None)
    ]
    lines = drawn(diff_table(("week_1", "correction_12"), rows), width)
    assert max(map(len, lines)) <= width


def test_a_run_id_is_short_unless_it_is_asked_for():
    assert (short_id("0123456789abcdef", full=False), short_id("0123456789abcdef", full=True)) == (
        "01234567",
        "0123456789abcdef",
    )


def test_forced_colours_do_not_animate_a_file(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with module.working("reading") as status:
        status.update("reading on")
    with Live("a week", console=module.wide_console(live=True), auto_refresh=False) as live:
        live.refresh()
        live.refresh()
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out == "a week"


def test_forced_colours_do_not_cut_what_is_piped(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    module.wide_console().print(status_table([STATUS], module.wide_console().width))
    shown = capsys.readouterr().out
    assert "model s" in shown
    assert "\x1b[" in shown
