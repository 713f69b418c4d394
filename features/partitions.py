"""Partitions of features, examples and contexts: filled apart, then attached in place of the old ones.

A new partition is a table of its own, `<parent>_<key>_next`, that no reader sees. It is filled by binary COPY, indexed
like its parent and analysed, and `attach` then makes it the partition of its key and drops the old one, in the
caller's transaction: readers see the old rows or the new ones. A build that dies leaves at most such a table, which the
next build of the same key drops.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import connection, models, transaction

from features import binary_copy

LOCK_TIMEOUT = "4s"
GIN_MEMORY = "2MB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """The partition of one key (a dictionary's or a tokenization's id) of a partitioned model."""

    model: type[models.Model]
    column: str
    key: int

    @property
    def parent(self) -> str:
        return self.model._meta.db_table

    @property
    def name(self) -> str:
        return f"{self.parent}_{self.key}"

    @property
    def next_name(self) -> str:
        return f"{self.name}_next"


def features_of(dictionary: int) -> Partition:
    """Return the partition of a dictionary's features."""
    from features.models import Feature

    return Partition(model=Feature, column="dictionary_id", key=dictionary)


def examples_of(dictionary: int) -> Partition:
    """Return the partition of a dictionary's examples."""
    from features.models import Example

    return Partition(model=Example, column="dictionary_id", key=dictionary)


def token_features_of(dictionary: int) -> Partition:
    """Return the partition of the features that fire on each token id."""
    from features.models import TokenFeature

    return Partition(model=TokenFeature, column="dictionary_id", key=dictionary)


def contexts_of(tokenization: int) -> Partition:
    """Return the partition of a tokenization's contexts."""
    from features.models import Context

    return Partition(model=Context, column="tokenization_id", key=tokenization)


def fill(partition: Partition, columns: Sequence[str], chunks: Iterable[Sequence[binary_copy.Column]]) -> int:
    """Write the detached table of a partition, replacing what a dead build left; return the number of rows.

    `columns` are those after the key, which every row gets; `chunks` are of features.rows. The table is complete and
    indexed when this returns, or absent.
    """
    table, parent, key = quoted(partition.next_name), quoted(partition.parent), quoted(partition.column)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {table}")
        cursor.execute(f"CREATE TABLE {table} (LIKE {parent} INCLUDING DEFAULTS INCLUDING STORAGE)")
        # With this check Postgres attaches without reading the table.
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT is_of_key CHECK ({key} = {partition.key:d})")
        listed = ", ".join(quoted(name) for name in (partition.column, *columns))
        kind = _kind(cursor, partition)
        cursor.execute("SELECT current_setting('maintenance_work_mem')")
        [general] = cursor.fetchone()
        count = 0
        # Frozen: nobody sees the table before it is whole, and no vacuum has to write its pages a second time.
        with cursor.copy(f"COPY {table} ({listed}) FROM STDIN (FORMAT BINARY, FREEZE)") as copy:
            copy.write(binary_copy.HEADER)
            for chunk in chunks:
                n = len(chunk[0])
                copy.write(binary_copy.rows([binary_copy.constant(partition.key, n, kind), *chunk]))
                count += n
            copy.write(binary_copy.TRAILER)
        for definition in _indexes(cursor, partition):
            # Of keys that come in order Postgres leaves the pages of a GIN index half empty, and fills them up with
            # what comes later: in several rounds it takes two thirds of the room.
            memory = GIN_MEMORY if " USING gin " in definition else ""
            cursor.execute("SELECT set_config('maintenance_work_mem', %s, true)", [memory or general])
            cursor.execute(definition)
        cursor.execute("SELECT set_config('maintenance_work_mem', %s, true)", [general])
        _leave_expressions_out(cursor, table)
        cursor.execute(f"ANALYZE {table}")
    return count


def attach(partition: Partition) -> None:
    """Make the filled table the partition of its key and drop the old one.

    Runs in the caller's transaction, after `short_locks`.
    """
    old, new, parent = quoted(partition.name), quoted(partition.next_name), quoted(partition.parent)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {old}")
        cursor.execute(f"ALTER TABLE {new} RENAME TO {old}")
        cursor.execute(f"ALTER TABLE {parent} ATTACH PARTITION {old} FOR VALUES IN ({partition.key:d})")
        cursor.execute(f"ALTER TABLE {old} DROP CONSTRAINT is_of_key")
        _rename_indexes(cursor, partition)


def drop(partition: Partition) -> None:
    """Drop a partition, and what a dead build may have left of its successor."""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {quoted(partition.name)}, {quoted(partition.next_name)}")


def exists(partition: Partition) -> bool:
    """Tell whether the key has a partition."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [quoted(partition.name)])
        return cursor.fetchone()[0]


@contextmanager
def short_locks() -> Iterator[None]:
    """Wait only seconds for locks in this transaction: whoever waits for a parent's lock holds up its readers."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        yield
        cursor.execute("SELECT set_config('lock_timeout', '0', true)")


def quoted(name: str) -> str:
    return connection.ops.quote_name(name)


def _kind(cursor: Any, partition: Partition) -> Any:
    """Return the kind of number that the key is."""
    cursor.execute(
        "SELECT attlen FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
        [quoted(partition.parent), partition.column],
    )
    return binary_copy.INT2 if cursor.fetchone() == (2,) else binary_copy.INT4


def _indexes(cursor: Any, partition: Partition) -> list[str]:
    """Return the statements that give the detached table the indexes of its parent, so that attaching makes none."""
    cursor.execute(
        """
        SELECT i.indisprimary, c.relname, pg_get_indexdef(i.indexrelid), pg_get_constraintdef(k.oid)
        FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.contype = 'p'
        WHERE i.indrelid = %s::regclass ORDER BY NOT i.indisprimary, c.relname
        """,
        [quoted(partition.parent)],
    )
    table = quoted(partition.next_name)
    statements = []
    for is_primary, name, definition, constraint in cursor.fetchall():
        if is_primary:
            statements.append(f"ALTER TABLE {table} ADD {constraint}")
        else:
            using = re.search(r" USING .*", definition, re.DOTALL)[0]
            statements.append(f"CREATE INDEX {quoted(f'{name}_{partition.key}_next')} ON {table}{using}")
    return statements


def _leave_expressions_out(cursor: Any, table: str) -> None:
    """Keep ANALYZE from computing the expressions of indexes, the words of texts.

    That would take as long as the index. Plans are the same without, and made sooner: reading statistics of words takes
    two milliseconds of a search.
    """
    cursor.execute(
        """
        SELECT i.indexrelid::regclass::text, a.attnum FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indexrelid AND i.indkey[a.attnum - 1] = 0
        WHERE i.indrelid = %s::regclass AND i.indexprs IS NOT NULL
        """,
        [table],
    )
    for index, column in cursor.fetchall():
        cursor.execute(f"ALTER INDEX {index} ALTER COLUMN {column:d} SET STATISTICS 0")


def _rename_indexes(cursor: Any, partition: Partition) -> None:
    """Take `_next` out of the names of a partition's indexes, so that the next build can use it again."""
    cursor.execute(
        "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND tablename = %s", [partition.name]
    )
    for (name,) in cursor.fetchall():
        if "_next" in name:
            cursor.execute(f"ALTER INDEX {quoted(name)} RENAME TO {quoted(name.replace('_next', ''))}")
