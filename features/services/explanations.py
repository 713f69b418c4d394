"""Explanations by methods, and labels: explanations by people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from django.db import connection, transaction

from features import packed_json
from features.models import Explanation
from features.services.checks import existing_feature, own, signed_in, text_of
from features.words import storable
from inference.errors import NotFound

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

MAX_LENGTH = 500


class MethodExplanation(NamedTuple):
    """One feature's explanation by a method, with JSON-ready evidence."""

    index: int
    text: str
    evidence: dict


@transaction.atomic
def label(*, dictionary: int, index: int, text: str, user: AbstractBaseUser | None) -> Explanation:
    """Add a person's explanation of a feature, or return it if the person has given the same before."""
    author = signed_in(user)
    existing_feature(dictionary, index)
    text = text_of(text, what="label", limit=MAX_LENGTH)
    row, _ = Explanation.objects.get_or_create(
        dictionary_id=dictionary, index=index, author=author, text=text, defaults={"method": ""}
    )
    return row


@transaction.atomic
def delete(*, explanation: int, user: AbstractBaseUser | None) -> None:
    """Delete one's own label."""
    row = Explanation.objects.select_for_update().filter(id=explanation).first()
    if row is None:
        raise NotFound("This explanation is gone already.", "Reload the page.", explanation=explanation)
    own(user, row.author_id, "label")
    row.delete()


@transaction.atomic
def add(*, dictionary: int, method: str, explanations: Iterable[MethodExplanation]) -> int:
    """Store a method's explanations of a dictionary's features, replacing those of the same method; return how many.

    An explanation whose text stays keeps its id and votes; votes on a text that changed go with it. Features that the
    method no longer explains lose its explanation.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            'CREATE TEMPORARY TABLE new_explanation ("index" int PRIMARY KEY, text text, evidence bytea) ON COMMIT DROP'
        )
        with cursor.copy('COPY new_explanation ("index", text, evidence) FROM STDIN') as copy:
            for index, text, evidence in explanations:
                copy.write_row((index, storable(text), packed_json.pack(evidence)))
        scope = {"dictionary": dictionary, "method": method}
        # Of an explanation that goes or changes, the votes go; of one that goes, the explanation too.
        cursor.execute(
            """
            DELETE FROM features_vote v USING features_explanation e
            LEFT JOIN new_explanation n ON n."index" = e."index"
            WHERE v.explanation_id = e.id AND e.dictionary_id = %(dictionary)s AND e.method = %(method)s
              AND e.author_id IS NULL AND n.text IS DISTINCT FROM e.text
            """,
            scope,
        )
        cursor.execute(
            """
            DELETE FROM features_explanation e
            WHERE e.dictionary_id = %(dictionary)s AND e.method = %(method)s AND e.author_id IS NULL
              AND NOT EXISTS (SELECT 1 FROM new_explanation n WHERE n."index" = e."index")
            """,
            scope,
        )
        cursor.execute(
            """
            INSERT INTO features_explanation (dictionary_id, "index", text, method, evidence, votes, created_at)
            SELECT %(dictionary)s, "index", text, %(method)s, evidence, 0, now() FROM new_explanation ORDER BY "index"
            ON CONFLICT (dictionary_id, "index", method) WHERE author_id IS NULL DO UPDATE
            SET text = excluded.text, evidence = excluded.evidence, created_at = excluded.created_at,
                votes = CASE WHEN features_explanation.text = excluded.text THEN features_explanation.votes ELSE 0 END
            WHERE features_explanation.text IS DISTINCT FROM excluded.text
               OR features_explanation.evidence IS DISTINCT FROM excluded.evidence
            """,
            scope,
        )
        cursor.execute("SELECT count(*) FROM new_explanation")
        [count] = cursor.fetchone()
        cursor.execute("DROP TABLE new_explanation")
    return count
