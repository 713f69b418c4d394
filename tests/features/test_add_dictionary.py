"""`manage.py add_dictionary` says what a path holds, and adds any layout."""

from io import StringIO

import pytest
import torch
from django.core.management import call_command

from features.models import Dictionary
from inference.errors import InvalidInput, NotFound
from tests.inference.dictionaries.layouts import CASES, Draw
from tests.tiny import tiny_dictionary


def run(*arguments: object) -> str:
    out = StringIO()
    call_command("add_dictionary", *map(str, arguments), stdout=out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("written_as", "name", "said"),
    [
        ("gemma_scope", "jumprelu", ["jumprelu", "105, 24 wide", "blocks.12.hook_resid_post", "google/gemma-2-2b"]),
        ("sparsify", "topk", ["topk, k 7", "blocks.3.hook_mlp_out", "2048", "- cfg.json and sae.safetensors"]),
        ("dictionary_learning", "MatryoshkaBatchTopKSAE", ["matryoshka", "20, 35, 50", "resid_post"]),
        ("llama_scope", "jumprelu", ["24 to 17 wide", "reads         blocks.8.ln2", "writes        blocks.8.hook_mlp"]),
    ],
)
def test_a_dry_run_says_what_it_is_and_writes_nothing(db, tmp_path, written_as, name, said):
    path = CASES[written_as, name](tmp_path, Draw(torch.Generator().manual_seed(3))).path
    out = run(path, "--dry-run")
    assert f"layout        {written_as}" in out
    assert all(part in out for part in said), out
    assert not Dictionary.objects.exists()


def test_a_pattern_adds_every_dictionary_that_matches(registered, tmp_path):
    for number in (0, 1):
        tiny_dictionary(tmp_path, "topk", f"blocks.{number}.hook_resid_post", source=f"{number}-res-new", seed=9)
    tiny_dictionary(tmp_path, "topk", source="1-res-other")
    assert run(tmp_path, "--match", "*-new", "--model", registered.model.slug).count("Next: ") == 2
    added = Dictionary.objects.exclude(id__in=[row.id for row in registered.dictionaries.values()])
    assert sorted(added.values_list("source", flat=True)) == ["0-res-new", "1-res-new"]
    with pytest.raises(NotFound, match="None of 3") as caught:
        run(tmp_path, "--match", "layer_*", "--dry-run")
    assert "1-res-other" in caught.value.details["suggestions"]


def test_a_model_is_needed_to_add(db, tmp_path):
    with pytest.raises(InvalidInput, match="which model"):
        run(tiny_dictionary(tmp_path))
