"""The past as PostgreSQL tells it is the past as it was: random histories, replayed in Python, compared at every batch and moment."""

import csv
import json
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.database import Role
from db.load.correction import correct
from db.source.holdout import is_holdout
from shared.errors import BadCorrectionError

SEED, PERCENTAGE = 42, 10
_MANY = [f"Zyx-Lampe {number}" for number in range(100)]
_TABLE = pa.table({"designation": _MANY, "description": pa.nulls(len(_MANY), pa.string())})
_ON_EITHER_SIDE = list(zip(is_holdout(_TABLE, SEED, PERCENTAGE).tolist(), _MANY, strict=True))
HELD_OUT = [title for held_out, title in _ON_EITHER_SIDE if held_out][:2]
TITLES = [*HELD_OUT, *[title for held_out, title in _ON_EITHER_SIDE if not held_out][:2]]
CODES = (10, 40, 50, 60)
PRODUCTIDS = (1, 2, 3)

# ---- the replay


@dataclass(frozen=True)
class Row:
    """A product, known by its id as in PostgreSQL."""

    id: int
    productid: int
    designation: str
    sample_rank: int | None
    split: str


@dataclass(frozen=True)
class Entry:
    """What the history is to know of a change of a product."""

    operation: str
    row: Row
    in_batch: bool


@dataclass
class Replay:
    """The tables as they should be, kept in Python. What happens in a transaction happens here when it is committed."""

    products: dict[int, Row] = field(default_factory=dict)  # by productid
    labels: dict[int, int] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    last_labels: dict[int, int] = field(
        default_factory=dict
    )  # the newest entry of each productid, also a deletion's
    looked: int = 0  # how many of the entries were there when a batch last held out what was due
    ids: int = 0

    def state(self) -> list[tuple]:
        return sorted(
            (row.productid, row.designation, row.sample_rank, row.split, self.labels.get(row.productid))
            for row in self.products.values()
        )

    def put(self, row: Row, *, in_batch: bool) -> None:
        old = self.products.get(row.productid)
        if old != row:
            self.products[row.productid] = row
            self.entries.append(Entry("UPDATE" if old else "INSERT", row, in_batch))

    def insert(self, productid: int, title: str, rank: int | None, split: str, *, in_batch: bool) -> None:
        self.ids += 1
        self.put(Row(self.ids, productid, title, rank, split), in_batch=in_batch)

    def delete(self, productid: int, *, in_batch: bool) -> None:
        if productid in self.products:
            self.entries.append(Entry("DELETE", self.products.pop(productid), in_batch))

    def label(self, productid: int, code: int) -> None:
        self.labels[productid] = self.last_labels[productid] = code

    def unlabel(self, productid: int) -> None:
        if productid in self.labels:
            self.last_labels[productid] = self.labels.pop(productid)

    def deleted(self, productid: int) -> Row | None:
        """What a product was when it was deleted; of several, the last that had a rank."""
        found = [
            (entry.row.sample_rank is not None, place, entry.row)
            for place, entry in enumerate(self.entries)
            if entry.operation == "DELETE" and entry.row.productid == productid
        ]
        return max(found)[-1] if found else None

    def is_due(self, row: Row) -> bool:
        """Whether a product is to be held out: for its title, or because it, or one of its productid, ever was."""
        namesakes = {entry.row.id for entry in self.entries if entry.row.productid == row.productid}
        was = any(entry.row.split == "holdout" for entry in self.entries if entry.row.id in namesakes)
        return was or row.designation in HELD_OUT

    def hold_out_changes(self) -> None:
        """What the end of a correction does with what was changed since the last one: weeks are completed with psql here."""
        changed = {entry.row.id for entry in self.entries[self.looked :]}
        for row in [row for row in self.products.values() if row.id in changed and row.split == "train"]:
            if self.is_due(row):
                self.put(replace(row, split="holdout"), in_batch=True)
        self.looked = len(self.entries)


# ---- the steps, each done in PostgreSQL and in the replay


def put_product(connection, replay, productid, value, *, in_batch):
    title, split = TITLES[value], "holdout" if value == 1 else "train"
    old = replay.products.get(productid)
    connection.execute(
        "insert into products (productid, designation, sample_rank, split) values (%s, %s, %s, %s)"
        " on conflict (productid) do update set designation = excluded.designation",
        [productid, title, productid * 10 if value else None, split],
    )
    if old is None:
        replay.insert(productid, title, productid * 10 if value else None, split, in_batch=in_batch)
    else:
        replay.ids += 1  # an upsert draws an id also for the row that it then updates
        replay.put(replace(old, designation=title), in_batch=in_batch)


def retitle_all(connection, replay, _productid, value, *, in_batch):
    connection.execute("update products set designation = %s", [TITLES[value]])
    for row in list(replay.products.values()):
        replay.put(replace(row, designation=TITLES[value]), in_batch=in_batch)


def delete_product(connection, replay, productid, _value, *, in_batch):
    connection.execute("delete from products where productid = %s", [productid])
    replay.delete(productid, in_batch=in_batch)


def rename_product(connection, replay, productid, value, *, in_batch):
    target = PRODUCTIDS[value % len(PRODUCTIDS)]
    if productid in replay.products and target not in replay.products:
        connection.execute("update products set productid = %s where productid = %s", [target, productid])
        row = replace(replay.products.pop(productid), productid=target)
        replay.products[target] = row
        replay.entries.append(Entry("UPDATE", row, in_batch))


def put_label(connection, replay, productid, value, *, in_batch):
    connection.execute(
        "insert into labels (productid, prdtypecode) values (%s, %s)"
        " on conflict (productid) do update set prdtypecode = excluded.prdtypecode",
        [productid, CODES[value]],
    )
    replay.label(productid, CODES[value])


def delete_label(connection, replay, productid, _value, *, in_batch):
    connection.execute("delete from labels where productid = %s", [productid])
    replay.unlabel(productid)


def rename_label(connection, replay, productid, value, *, in_batch):
    target = PRODUCTIDS[value % len(PRODUCTIDS)]
    if productid in replay.labels and target not in replay.labels:
        connection.execute("update labels set productid = %s where productid = %s", [target, productid])
        replay.label(target, replay.labels.pop(productid))


def truncate_products(connection, replay, _productid, _value, *, in_batch):
    connection.execute("truncate products")
    for productid in list(replay.products):
        replay.delete(productid, in_batch=in_batch)


CHANGES = (
    put_product,
    put_product,
    retitle_all,
    delete_product,
    rename_product,
    put_label,
    put_label,
    delete_label,
    rename_label,
    truncate_products,
)


class World:
    """A database and its replay, and what was seen of the replay at each batch and at moments between."""

    def __init__(self, owner, loader, settings, path):
        self.owner, self.loader, self.settings, self.path = owner, loader, settings, path
        self.replay = Replay()
        self.weeks = self.corrections = 0
        self.at_batch: dict[int, list[tuple]] = {}
        self.at_moment: dict[object, list[tuple]] = {}
        owner.execute(
            "truncate products, labels, products_history, labels_history, data_loads restart identity"
        )
        self.week([(change, productid, 2) for productid in PRODUCTIDS for change in (put_product, put_label)])

    def outside(self, changes):
        """Somebody at psql: several statements in one transaction."""
        with self.owner.transaction():
            self._do(self.owner, changes, in_batch=False)
        self._look()

    def thinks_better(self, changes):
        """Somebody at psql rolls back what he did. Only ids are gone."""
        kept = self.replay
        self.replay = Replay(**{**vars(kept), "products": dict(kept.products), "labels": dict(kept.labels)})
        self.replay.entries, self.replay.last_labels = list(kept.entries), dict(kept.last_labels)
        with self.owner.transaction(force_rollback=True):
            self._do(self.owner, changes, in_batch=False)
        kept.ids = self.replay.ids
        self.replay = kept

    def week(self, changes, between=()):
        """A week: what it brings, what somebody does before it is complete, its seal."""
        self.weeks += 1
        source = json.dumps({"random_seed": SEED, "holdout_percentage": PERCENTAGE})
        claim = "select claim_batch(%s, %s, %s)"
        [batch_id] = self.loader.execute(claim, [f"week_{self.weeks}", self.weeks, source]).fetchone()
        with self.loader.transaction():
            self.loader.execute("select begin_batch(%s)", [batch_id])
            changes = [
                change for change in changes if change[0] is not truncate_products
            ]  # the loader may not
            self._do(self.loader, changes, in_batch=True)
        if between:
            self.outside(between)
        self.loader.execute("select complete_batch(%s)", [batch_id])
        self._seal(batch_id)

    def correction(self, kind, rows):
        """A file of corrections, as far as it can be right; one that changes nothing is refused, and changes nothing."""
        rows = {productid: value for productid, value in rows if self._can(kind, productid)}
        if not rows:
            return
        header = {"label": "prdtypecode", "title": "designation"}.get(kind, "operation")
        cells = {"label": CODES, "title": TITLES}.get(kind, [kind] * 4)
        with self.path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["productid", header])
            writer.writerows([productid, cells[value]] for productid, value in rows.items())
        before = self.replay.state()
        changed = [self._changed(kind, productid, value) for productid, value in rows.items()]
        for productid, row, code in changed:
            self._become(productid, row, code)
        if self.replay.state() == before:
            with pytest.raises(BadCorrectionError, match="it changes nothing"):
                correct(self.loader, self.settings, self.path)
            return
        result = correct(self.loader, self.settings, self.path)
        self.corrections += 1
        assert result.batch_name == f"correction_{self.corrections}"
        self.replay.hold_out_changes()
        self._seal(result.batch_id)

    def _can(self, kind, productid):
        if kind == "insert":
            return (
                productid not in self.replay.products
                and self.replay.deleted(productid) is not None
                and productid in self.replay.last_labels
            )
        return productid in self.replay.products

    def _changed(self, kind, productid, value):
        """What a correction makes of a product and its label."""
        if kind == "delete":
            return productid, None, None
        replay, code = self.replay, self.replay.labels.get(productid)
        row = replay.products.get(productid)
        match kind:
            case "label":
                code = CODES[value]
            case "title":
                row = replace(row, designation=TITLES[value])
            case "insert":
                row, code = replace(replay.deleted(productid), id=0), replay.last_labels[productid]
        return productid, replace(row, split="holdout") if replay.is_due(row) else row, code

    def _become(self, productid, row, code):
        if row is None:
            self.replay.delete(productid, in_batch=True)
            self.replay.unlabel(productid)
            return
        if row.id == 0:
            self.replay.insert(productid, row.designation, row.sample_rank, row.split, in_batch=True)
        self.replay.put(replace(row, id=self.replay.products[productid].id), in_batch=True)
        if code is not None:
            self.replay.label(productid, code)

    def _do(self, connection, changes, *, in_batch):
        for change, productid, value in changes:
            change(connection, self.replay, productid, value, in_batch=in_batch)

    def _seal(self, batch_id):
        self.at_batch[batch_id] = self.replay.state()
        self._look()

    def _look(self):
        [moment] = self.owner.execute("select clock_timestamp()").fetchone()
        self.at_moment[moment] = self.replay.state()


def seen(connection, function: str, argument: object) -> list[tuple]:
    columns = "productid, designation, sample_rank, split, prdtypecode"
    return sorted(connection.execute(f"select {columns} from {function}(%s)", [argument]).fetchall())


productids, values = st.sampled_from(PRODUCTIDS), st.integers(0, 3)
changes = st.lists(st.tuples(st.sampled_from(CHANGES), productids, values), min_size=1, max_size=4)
steps = st.one_of(
    st.tuples(st.just("outside"), changes),
    st.tuples(st.just("thinks_better"), changes),
    st.tuples(st.just("week"), changes, st.just(()) | changes),
    st.tuples(
        st.just("correction"),
        st.sampled_from(["label", "title", "delete", "insert"]),
        st.lists(st.tuples(productids, values), min_size=1, max_size=3),
    ),
)


@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=st.lists(steps, min_size=3, max_size=12))
def test_every_batch_and_every_moment_are_found_again_as_they_were(as_role, database, tmp_path, history):
    with (
        as_role(Role.OWNER, autocommit=True) as owner,
        as_role(Role.LOADER, autocommit=True) as loader,
        as_role(Role.READER, autocommit=True) as reader,
    ):
        world = World(owner, loader, database.settings, tmp_path / "correction.csv")
        for name, *arguments in history:
            getattr(world, name)(*arguments)
        batches = {batch: seen(reader, "products_as_of_batch", batch) for batch in world.at_batch}
        assert batches == world.at_batch
        moments = {moment: seen(reader, "products_as_of", moment) for moment in world.at_moment}
        assert moments == world.at_moment
        present = seen(reader, "products_as_of", "infinity")
        assert present == sorted(
            reader.execute(
                "select productid, designation, sample_rank, split, prdtypecode from products left join labels using (productid)"
            ).fetchall()
        )
        assert (
            reader.execute("select batch_name from verify_seals() where problem is not null").fetchall() == []
        )
