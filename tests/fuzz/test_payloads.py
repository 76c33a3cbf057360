"""Whatever a role notifies: an event exactly as it says, or an invalid payload, and nothing else."""

import asyncio
import json
import string

from fuzzing import count, inputs
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from listeners.doorbell import Doorbell
from listeners.listen import WakeSource, WakeUp
from shared.events import Channel, InvalidPayloadError, parse

LARGEST_PAYLOAD_BYTES = 7_999  # of NOTIFY
RUN_ID = "0123456789abcdef0123456789abcdef"

# ---- the contract a second time: the fields of each channel and what each may hold


def is_one(value: object) -> bool:
    return type(value) is int and value == 1


def is_positive(value: object) -> bool:
    return type(value) is int and 1 <= value < 2**63  # a bigint


def is_run_id(value: object) -> bool:
    return type(value) is str and value != "" and set(value) <= {*string.ascii_letters, *string.digits, *"_-"}


def is_in(*words: str):
    return lambda value: type(value) is str and value in words


BATCH = {"v": is_one, "batch_id": is_positive}
FIELDS = {
    "products_audited": {
        "v": is_one,
        "batch_id": lambda value: value is None or is_positive(value),
        "table": is_in("products", "labels"),
        "operation": is_in("INSERT", "UPDATE", "DELETE"),
        "rows": is_positive,
    },
    "batch_completed": BATCH,
    "dataset_ready": BATCH | {"run_id": is_run_id},
    "model_trained": BATCH | {"run_id": is_run_id},
    "champion_moved": {"v": is_one, "version": lambda value: value is None or is_positive(value)},
    "stage_failed": BATCH | {"stage": is_in("snapshot", "training"), "attempt": is_positive},
}
GOOD = {
    "v": 1,
    "batch_id": 7,
    "table": "labels",
    "operation": "UPDATE",
    "rows": 3,
    "run_id": RUN_ID,
    "stage": "training",
    "attempt": 2,
    "version": 3,
}


def expected(channel: str, payload: str) -> dict | None:
    """What the payload says, read by Python's json; None if the contract does not allow it."""
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    fields = FIELDS.get(channel)
    if not isinstance(said, dict) or fields is None or said.keys() != fields.keys():
        return None
    return said if all(allows(said[name]) for name, allows in fields.items()) else None


def test_the_contract_knows_every_channel():
    assert set(FIELDS) == set(Channel)


# ---- payloads

SCALARS = [
    *(None, True, False, 0, 1, -1, 7, 1.0, 7.5, 1e400, float("nan"), "", "1", "7", "\x00", "\x1b[2J", "é", "a\n"),
    *(2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, 10**4299, -(2**63), RUN_ID, "run_id", "INSERT", "snapshot"),
]  # fmt: skip
PIECES = [
    *("{", "}", "[", "]", '"', ",", ":", "\\", "\\u0000", "\\ud800", "\\ud83c\\udfb2", "\\u0076", "NaN", "-Infinity", "null"),
    *("1", "0", "-", ".", "e9", "1.0", " ", "\n", "\x00", "\x0b", "\ufeff", "\xa0", "//", "/**/", "'", "\ud800", "🎲", "True"),
    *("[" * 10_000, '{"v":' * 10_000, "1" * 4_300, "1" * 4_301, " " * LARGEST_PAYLOAD_BYTES),
]  # fmt: skip

values = st.recursive(
    st.sampled_from(SCALARS) | st.integers() | st.integers(1, 2**63) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from([*GOOD, "", "V", "__class__", "v\x00"]) | st.text(max_size=4)


@st.composite
def spoilt(draw, text: str) -> str:
    at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 3))
    piece = draw(st.sampled_from(["", *PIECES]) | st.text(st.characters(), max_size=3))
    return text[:at] + piece + text[at + length :]


@st.composite
def near_payloads(draw, channel: str) -> str:
    """A good payload with something done to its fields, and perhaps to its text."""
    fields = [(name, GOOD[name]) for name in FIELDS[channel]]
    for change in draw(st.lists(st.sampled_from(["set", "set", "drop", "add", "repeat"]), max_size=2)):
        at = draw(st.integers(0, len(fields) - 1))
        if change == "set":
            fields[at] = (fields[at][0], draw(values))
        elif change == "drop" and len(fields) > 1:
            del fields[at]
        elif change == "add":
            fields.append((draw(names), draw(values)))
        elif change == "repeat":  # the last of equal names counts, as in jsonb
            fields.append((fields[at][0], draw(values)))
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r ")]))
    text = "{" + comma.join(f"{json.dumps(name)}{colon}{json.dumps(value)}" for name, value in fields) + "}"
    return draw(spoilt(text)) if draw(st.integers(0, 3)) == 3 else text


channels = st.sampled_from(sorted(FIELDS))
unknown_channels = st.sampled_from(["", "BATCH_COMPLETED", "batch_completed ", "pg_notify"]) | st.text(
    st.characters(), max_size=10
)
anything = (
    st.text(st.characters(), max_size=60)
    | st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
    | values.map(json.dumps)
)
near_notifications = channels.flatmap(lambda channel: st.tuples(st.just(channel), near_payloads(channel)))
notifications = (
    near_notifications
    | near_notifications
    | near_notifications
    | st.tuples(channels, anything)
    | st.tuples(unknown_channels, near_payloads("batch_completed"))
)


@inputs(short=500, long=30_000)
@given(notifications)
# a batch id that no bigint holds was taken for one
@example(("batch_completed", f'{{"v": 1, "batch_id": {2**63}}}'))
@example(("batch_completed", f'{{"v": 1, "batch_id": {"1" * 4_300}}}'))
# a run id that clears the screen of whoever follows `rakuten events`
@example(("dataset_ready", '{"v": 1, "batch_id": 7, "run_id": "\\u001b[2J"}'))
def test_a_payload_is_an_event_as_it_says_or_invalid(notification):
    channel, payload = notification
    said = expected(channel, payload)
    try:
        event = parse(channel, payload)
    except InvalidPayloadError:
        event = None
    assert said == (event.model_dump() if event else None)
    assert event is None or parse(channel, event.model_dump_json()) == event
    count("payloads", accepted=said is not None)


async def first_wake_up(received) -> WakeUp:
    doorbell = Doorbell()
    for channel, payload in received:
        doorbell.ring(WakeUp(WakeSource.NOTIFY, 1.0, channel, payload))
    return await doorbell.wait(0)


@inputs(short=100, long=3_000)
@given(st.lists(notifications, max_size=5))
def test_a_doorbell_rings_for_an_event_and_for_nothing_else(received):
    events = [notification for notification in received if expected(*notification) is not None]
    with capture_logs():
        wake = asyncio.run(first_wake_up(received))
    assert [(wake.channel, wake.payload)] == (events[:1] or [("", "")])
    count("doorbells", accepted=bool(events))
