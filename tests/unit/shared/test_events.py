"""Payloads are parsed strictly: any role can NOTIFY, so whatever is not exactly ours is refused, and nothing else happens."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.events import (
    BatchCompleted,
    ChampionMoved,
    Channel,
    DatasetReady,
    InvalidPayloadError,
    ModelTrained,
    ProductsAudited,
    Stage,
    StageFailed,
    parse,
)

AUDITED = {"v": 1, "batch_id": 7, "table": "products", "operation": "INSERT", "rows": 3}
FAILED = {"v": 1, "batch_id": 7, "stage": "training", "attempt": 5}
LARGEST_PAYLOAD_BYTES = 7_999


@pytest.mark.parametrize(
    ("channel", "payload", "event"),
    [
        ("batch_completed", {"v": 1, "batch_id": 7}, BatchCompleted(v=1, batch_id=7)),
        ("dataset_ready", {"v": 1, "batch_id": 7, "run_id": "a"}, DatasetReady(v=1, batch_id=7, run_id="a")),
        ("model_trained", {"v": 1, "batch_id": 7, "run_id": "a"}, ModelTrained(v=1, batch_id=7, run_id="a")),
        ("champion_moved", {"v": 1, "version": 3}, ChampionMoved(v=1, version=3)),
        ("champion_moved", {"v": 1, "version": None}, ChampionMoved(v=1, version=None)),
        ("stage_failed", FAILED, StageFailed(v=1, batch_id=7, stage=Stage.TRAINING, attempt=5)),
        (
            "products_audited",
            AUDITED,
            ProductsAudited(v=1, batch_id=7, table="products", operation="INSERT", rows=3),
        ),
        (
            "products_audited",
            AUDITED | {"batch_id": None},
            ProductsAudited(v=1, batch_id=None, table="products", operation="INSERT", rows=3),
        ),
    ],
)
def test_each_channel_carries_its_event(channel, payload, event):
    assert parse(channel, json.dumps(payload)) == event


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "garbage",
        "7",
        "null",
        "[]",
        '"{}"',
        "{}",
        "{'v': 1, 'batch_id': 7}",
        '{"v": 1, "batch_id": 7',
        '{"v": 1, "batch_id": 7} {}',
        '{"v": 1, "batch_id": NaN}',
        '{"v": 1, "batch_id": 1e400}',
        '{"batch_id": 7}',
        '{"v": 1}',
        '{"v": 2, "batch_id": 7}',
        '{"v": 0, "batch_id": 7}',
        '{"v": "1", "batch_id": 7}',
        '{"v": 1.0, "batch_id": 7}',
        '{"v": true, "batch_id": 7}',
        '{"v": null, "batch_id": 7}',
        '{"v": 1, "batch_id": "7"}',
        '{"v": 1, "batch_id": 7.0}',
        '{"v": 1, "batch_id": 7.5}',
        '{"v": 1, "batch_id": true}',
        '{"v": 1, "batch_id": null}',
        '{"v": 1, "batch_id": 0}',
        '{"v": 1, "batch_id": -7}',
        '{"v": 1, "batch_id": 9223372036854775808}',
        '{"v": 1, "batch_id": [7]}',
        '{"v": 1, "batch_id": 7, "run_id": "a"}',
        '{"v": 1, "batch_id": 7, "": 1}',
        pytest.param("[" * LARGEST_PAYLOAD_BYTES, id="deeply nested"),
        pytest.param(
            '{"v": 1, "batch_id": 7, "x": "' + "x" * 7_967 + '"}', id="the longest that NOTIFY takes"
        ),
        pytest.param("é" * (LARGEST_PAYLOAD_BYTES // 2), id="no ASCII"),
        pytest.param("\x00", id="NUL"),
    ],
)
def test_what_is_no_batch_completed_is_refused(payload):
    with pytest.raises(InvalidPayloadError):
        parse("batch_completed", payload)


@pytest.mark.parametrize(
    ("channel", "payload"),
    [
        ("products_audited", AUDITED | {"table": "data_loads"}),
        ("products_audited", AUDITED | {"operation": "TRUNCATE"}),
        ("products_audited", AUDITED | {"rows": 0}),
        ("products_audited", {key: AUDITED[key] for key in AUDITED if key != "batch_id"}),
        ("dataset_ready", {"v": 1, "batch_id": 7}),
        ("dataset_ready", {"v": 1, "batch_id": 7, "run_id": 5}),
        ("dataset_ready", {"v": 1, "batch_id": 7, "run_id": ""}),
        ("dataset_ready", {"v": 1, "batch_id": 7, "run_id": "\x1b[2J"}),
        ("model_trained", {"v": 1, "batch_id": 7, "run_id": "a\n"}),
        ("model_trained", {"v": 1, "batch_id": 7, "run_id": None}),
        ("champion_moved", {"v": 1, "version": 0}),
        ("champion_moved", {"v": 1}),
        ("stage_failed", FAILED | {"stage": "load"}),
        ("stage_failed", FAILED | {"attempt": 0}),
    ],
)
def test_fields_of_other_kinds_are_refused(channel, payload):
    with pytest.raises(InvalidPayloadError):
        parse(channel, json.dumps(payload))


@pytest.mark.parametrize("channel", ["", "batch_completed ", "BATCH_COMPLETED", "pg_notify", "x" * 63])
def test_an_unknown_channel_is_refused_by_name(channel):
    with pytest.raises(InvalidPayloadError, match="unknown channel"):
        parse(channel, '{"v": 1, "batch_id": 7}')


def test_the_refusal_names_the_field():
    with pytest.raises(InvalidPayloadError, match="batch_id: "):
        parse("batch_completed", '{"v": 1, "batch_id": "7"}')


def test_the_largest_payload_is_parsed():
    padding = LARGEST_PAYLOAD_BYTES - len('{"v": 1, "batch_id": 7, "run_id": ""}')
    event = parse("dataset_ready", json.dumps({"v": 1, "batch_id": 7, "run_id": "x" * padding}))
    assert isinstance(event, DatasetReady)
    assert len(event.run_id) == padding


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)
near_payloads = st.fixed_dictionaries(
    {},
    optional={
        "v": st.sampled_from([1, 2, "1", None]) | json_values,
        "batch_id": st.integers() | json_values,
        "run_id": json_values,
        "stage": json_values,
        "attempt": json_values,
        "extra": json_values,
    },
)


@given(
    channel=st.sampled_from(list(Channel)) | st.text(),
    payload=st.text(max_size=LARGEST_PAYLOAD_BYTES)
    | json_values.map(json.dumps)
    | near_payloads.map(json.dumps)
    | st.text(st.characters()),
)
def test_whatever_arrives_is_an_event_or_an_invalid_payload(channel, payload):
    try:
        event = parse(channel, payload)
    except InvalidPayloadError:
        return
    assert event.v == 1


def test_events_are_frozen():
    event = BatchCompleted(v=1, batch_id=7)
    with pytest.raises(ValidationError, match="frozen"):
        event.batch_id = 8
