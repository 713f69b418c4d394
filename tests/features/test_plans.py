"""Plans: pages read the partitions of their own dictionary and no others, whatever they are asked."""

import re
from io import StringIO

import pytest
from django.core.management import call_command

from features import plans, services
from features.models import Dictionary, Feature
from inference.errors import NotFound

ALIKE = [
    "Limit (actual rows=2.00 loops=1)",
    "  ->  Merge Append (actual rows=2.00 loops=1)",
    "        Sort Key: f.firing_count",
    "        ->  Index Scan on one_1 (actual rows=2.00 loops=1)",
    "              Index Cond: (dictionary_id = ANY ('{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18}'::integer[]))",
    "        ->  Index Scan on one_2 (actual rows=2.00 loops=1)",
    "        ->  Index Scan on one_3 (actual rows=2.00 loops=1)",
    "              Filter: true",
    "  ->  Hash (actual rows=2.00 loops=1)",
]


def test_every_page_of_a_dictionary_reads_its_partitions_alone(world):
    services.dictionaries.add_dictionary(
        path=world.parts.dictionaries["1-res-topk"], model="tiny", source="1-other-copy"
    )
    own = Dictionary.objects.built().order_by("-n_features", "id").first()
    checked = set()
    for name, read in plans.pages().items():
        if "all" in name or "everywhere" in name:
            continue
        for statement in plans.statements_of(read):
            found = plans.partitions_read(statement)
            assert found <= {f"features_feature_{own.pk}", f"features_example_{own.pk}"}, name
            checked |= found
    assert checked == {f"features_feature_{own.pk}", f"features_example_{own.pk}"}


def test_a_statement_that_names_no_dictionary_would_be_noticed(world):
    """The check above can fail."""
    statement = str(Feature.objects.filter(firing_count=3).query)
    assert len(plans.partitions_read(statement)) >= len(world.dictionaries) > 1


def test_of_partitions_alike_the_first_is_shown():
    assert plans.shortened(ALIKE) == [
        *ALIKE[:4],
        "              Index Cond: (dictionary_id = ANY ('{1,2,3,4,5,6,7,8,9,10,11,…}'::integer[]))",
        "        ->  (2 more of them)",
        ALIKE[-1],
    ]


def test_the_command_writes_every_page(world, tmp_path):
    out = StringIO()
    call_command("plans", str(tmp_path / "plans.md"), stdout=out)
    text = (tmp_path / "plans.md").read_text()
    assert re.findall("^## (.*)$", text, re.MULTILINE) == list(plans.pages())
    assert "Index Scan" in text
    assert f"{len(plans.pages())} pages" in out.getvalue()


def test_without_a_built_dictionary_it_says_what_to_do(registered):
    with pytest.raises(NotFound, match="No dictionary is built yet"):
        plans.pages()
