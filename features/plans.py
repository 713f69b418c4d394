"""How Postgres answers pages: the statements of each with their plans, shortened where partitions repeat."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from django.db import connection
from django.test.utils import CaptureQueriesContext

from features import selectors
from features.models import Dictionary, Example, Explanation, Feature, VocabularyToken
from features.results import SourceFilters
from inference.errors import NotFound

WIDEST = 150
AROUND, PER_GROUP = 14, 2
Read = Callable[[], object]
_ARRAY = re.compile(r"'\{([^{}']{40,})\}'")
_WORDS = re.compile(r"lower\(btrim\(regexp_replace\(.*?' '::text, 'g'::text\)\)\)")


def pages() -> dict[str, Read]:
    """Return what each page reads, of the largest built dictionary; raise NotFound without one."""
    dictionary = Dictionary.objects.built().select_related("model").order_by("-n_features", "id").first()
    if dictionary is None:
        raise NotFound("No dictionary is built yet.", "Build one, or make some up: python manage.py synthesize.")
    model, source = dictionary.model.slug, dictionary.source
    feature = Feature.objects.of(dictionary.pk).alive().order_by("-firing_count", "-index").first()
    index = feature.index if feature is not None else 0
    token, word = _token(dictionary, feature), _word(dictionary)

    def listed(**filters: object) -> Read:
        return lambda: selectors.source_page(model, source, SourceFilters(**filters))

    return {
        "A feature's page": lambda: selectors.feature_page(model, source, index, around=AROUND, per_group=PER_GROUP),
        "A dictionary's list, the most frequent first": listed(sort="-density"),
        "The same by a word of its explanations": listed(text=word),
        "The same by a token": listed(token=token),
        "The same between two densities, the strongest first": listed(
            density_low=1e-4, density_high=1e-2, sort="-maximum"
        ),
        "The features of a token, in all dictionaries": lambda: selectors.search(f'tok:"{token}"'),
        "A word in all explanations": lambda: selectors.search(f"label:{word}"),
        "Two words in all explanations": lambda: selectors.search("label:the label:of"),
        "A word in the explanations of a dictionary": lambda: selectors.search(f"label:{word}", model, source),
        "A word in all explanations of features of a token": lambda: selectors.search(f'label:of tok:"{token}"'),
        "What fires often, in all dictionaries": lambda: selectors.search("density:>10%"),
        "A word everywhere": lambda: selectors.search(token),
    }


def statements_of(read: Read) -> list[str]:
    """Return the statements that a read runs, once what it remembers is remembered."""
    read()
    with CaptureQueriesContext(connection) as queries:
        read()
    return [query["sql"] for query in queries]


def plan_of(statement: str, *, run: bool = False) -> list[str]:
    """Return the lines of a statement's plan, with the rows and pages of a run where asked."""
    options = "ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF, BUFFERS OFF" if run else "COSTS OFF, VERBOSE"
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN ({options}) {statement}")
        return [line for (line,) in cursor.fetchall()]


def partitions_read(statement: str) -> set[str]:
    """Return the partitions of features, examples and contexts that a statement's plan names."""
    parents = "|".join(model._meta.db_table for model in (Feature, Example))
    return set(re.findall(rf"\b(?:{parents})_\d+\b(?=\s)", "\n".join(plan_of(statement))))


def shortened(lines: Sequence[str]) -> list[str]:
    """Leave out what a plan does for every partition after the first, and the long lists that it repeats."""
    kept: list[str] = []
    for line in _without_siblings(lines):
        line = _WORDS.sub("words of the text", _ARRAY.sub(lambda found: f"'{{{found[1][:24]}…}}'", line))
        kept.append(line if len(line) <= WIDEST else f"{line[:WIDEST]}…")
    return kept


def _without_siblings(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a plan; of the children of an Append only the first, and how many more there are."""
    place = 0
    while place < len(lines):
        line = lines[place]
        yield line
        place += 1
        if not re.search(r"(?:^|-> +)(?:Merge )?Append\b", line):
            continue
        children = _children(lines, place)
        if len(children) < 3:
            continue
        first, second = children[0], children[1]
        while place < first:  # sort keys and the like
            yield lines[place]
            place += 1
        yield from _without_siblings(lines[first:second])
        yield f"{' ' * _depth(lines[first])}->  ({len(children) - 1} more of them)"
        depth = _depth(lines[first])
        place = second
        while place < len(lines) and _depth(lines[place]) >= depth:
            place += 1


def _children(lines: Sequence[str], start: int) -> list[int]:
    """Return the lines where the children of the node before `start` begin."""
    parent = _depth(lines[start - 1])
    found: list[int] = []
    for place in range(start, len(lines)):
        depth = _depth(lines[place])
        if depth <= parent:
            break
        if lines[place].lstrip().startswith("->") and (not found or depth == _depth(lines[found[0]])):
            found.append(place)
    return found


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip())


def _token(dictionary: Dictionary, feature: Feature | None) -> str:
    """Return the text of the feature's first peak token, without white space."""
    ids = feature.peak_token_ids[:1] if feature is not None else []
    row = VocabularyToken.objects.filter(model_id=dictionary.model_id, token_id__in=ids).first()
    return (row.folded if row is not None else "") or "the"


def _word(dictionary: Dictionary) -> str:
    """Return the longest word of an explanation."""
    row = Explanation.objects.filter(dictionary=dictionary).order_by("index").first()
    words = re.findall(r"[^\W\d_]+", row.text) if row is not None else []
    return max(words, key=len, default="word")
