"""Dictionaries of several hook points, of sequences and of transforms, from a path to pages: add, build, evaluate."""

from io import StringIO

import pytest
from django.core.management import call_command

from features import selectors, services
from features.looks.dictionaries import look_at_dictionaries
from features.models import Dictionary
from inference.dictionaries.config import SeveralDictionaries
from inference.errors import FacetError
from inference.serving import Engine
from inference.tasks import _specs
from tests.tiny import TEXT
from tests.tiny_sets import CROSSCODER_POINTS, tiny_clt, tiny_crosscoder, tiny_molt, tiny_temporal

BUILD = ("--tokens", 1500, "--context-size", 48, "--inline")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return {
        "clt": tiny_clt(folder / "clt"),
        "crosscoder": tiny_crosscoder(folder / "crosscoder"),
        "temporal": tiny_temporal(folder / "temporal"),
        "molt": tiny_molt(folder / "molt"),
    }


@pytest.fixture
def added(registered, folders):
    """Add all of them to the tiny model; return the sources by what they are."""
    paths = {name: path for name, path in folders.items() if name != "clt"}
    paths |= {f"clt {layer}": f"{folders['clt']}#{layer}" for layer in range(3)}
    add = services.dictionaries.add_dictionary
    return {name: add(path=path, model="tiny").source for name, path in paths.items()}


def run(command, *arguments):
    out = StringIO()
    call_command(command, *map(str, arguments), stdout=out)
    return out.getvalue()


def test_a_look_lists_the_layers_of_a_set(registered, folders):
    with pytest.raises(SeveralDictionaries) as error:
        services.dictionaries.add_dictionary(path=folders["clt"], model="tiny")
    assert f"{folders['clt']}#0" in error.value.details["suggestions"]
    look = look_at_dictionaries(str(folders["clt"]), model="tiny")
    assert [found.name for found in look.dictionaries] == ["#0", "#1", "#2"]
    assert [found.source for found in look.addable] == ["0-clt-jumprelu", "1-clt-jumprelu", "2-clt-jumprelu"]
    assert look.n_found == 3
    chosen = look_at_dictionaries(str(folders["clt"]), match="#1", model="tiny")
    assert [found.path for found in chosen.dictionaries] == [f"{folders['clt']}#1"]


def test_pages_show_joined_hook_points_readably(added, client):
    assert added["crosscoder"] == "0-cc-batchtopk"
    row = Dictionary.objects.get(source=added["clt 0"])
    assert row.hook_point_out == "+".join(f"blocks.{layer}.hook_mlp_out" for layer in range(3))
    page = client.get(f"/tiny/{row.source}").content.decode()
    assert "blocks.0–2.hook_mlp_out" in page and row.hook_point_out not in page
    assert Dictionary.objects.get(source=added["crosscoder"]).hook_point == CROSSCODER_POINTS
    for address in ("/tiny", f"/tiny/{added['crosscoder']}", f"/tiny/{added['molt']}"):
        page = client.get(address)
        assert page.status_code == 200
        assert CROSSCODER_POINTS not in page.content.decode()


def test_each_is_built_and_shown(added, client):
    for name in ("crosscoder", "clt 0", "temporal", "molt"):
        run("build", f"tiny/{added[name]}", *BUILD)
        card = selectors.source_card("tiny", added[name])
        assert card.built_at is not None and card.l0_mean > 0, name
        # One layer of a cross-layer transcoder reconstructs nothing by itself.
        assert (card.explained_variance is None) == (name == "clt 0"), name
        page = client.get(f"/tiny/{added[name]}").content.decode()
        assert ("one term of a sum" in page) == (name == "clt 0"), name
        feature = client.get(f"/tiny/{added[name]}/3")
        assert feature.status_code == 200
        says = "write no direction of their own" in feature.content.decode()
        assert says == (name == "molt"), name


def test_an_evaluation_of_one_layer_takes_the_whole_set(added):
    said = run("evaluate", f"tiny/{added['clt 1']}", "--split", "all", "--tokens", 300)
    assert "CE recovered" in said
    measured = [selectors.source_card("tiny", added[f"clt {layer}"]).fidelity for layer in range(3)]
    assert [fidelity.n_terms for fidelity in measured] == [3, 3, 3]
    assert len({fidelity.explained_variance for fidelity in measured}) == 1
    assert selectors.source_card("tiny", added["crosscoder"]).fidelity is None


def test_a_set_that_lacks_a_layer_is_not_evaluated(added):
    services.dictionaries.remove_dictionary(dictionary=Dictionary.objects.get(source=added["clt 2"]).pk)
    with pytest.raises(FacetError) as error:
        run("evaluate", f"tiny/{added['clt 1']}", "--split", "all", "--tokens", 300)
    assert "2 of the 3 terms" in error.value.cause and "#2" in error.value.remedy


def test_others_are_evaluated_by_themselves(added):
    for name in ("crosscoder", "temporal", "molt"):
        run("evaluate", f"tiny/{added[name]}", "--split", "all", "--tokens", 300)
        fidelity = selectors.source_card("tiny", added[name]).fidelity
        assert fidelity.n_terms == 1 and fidelity.ce_spliced != fidelity.ce_clean, name


def test_the_engine_answers_for_all_of_them(added):
    engine = Engine(worker="test", capacity_bytes=1 << 30, device="cpu")
    model, specs = _specs("tiny", list(added.values()))
    asked = {"text": TEXT, "rank": "max", "density": None, "positions": None, "top": 2000, "truncate": False}
    answer = engine.prompt_features(model, specs, **asked)
    assert {feature["source"] for feature in answer["features"]} == set(added.values())
    for spec in specs:
        tested = engine.feature_activations(model, spec, indices=[3, 5], text=TEXT, truncate=False)
        assert len(tested["values"]) == 2
    # Each part of a set is held for itself.
    dictionaries = [engine.dictionary(engine.model(model), spec) for spec in specs]
    assert len({id(dictionary) for dictionary in dictionaries}) == len(specs)
    assert all(engine.dictionary(engine.model(model), spec) is dictionaries[at] for at, spec in enumerate(specs))


def test_steering_with_transforms_is_refused_before_it_starts(added, client):
    run("build", f"tiny/{added['molt']}", *BUILD)
    answer = client.post(
        "/api/v1/steer",
        {"model": "tiny", "text": "def f():", "edits": [{"source": added["molt"], "index": 3, "strength": 1.0}]},
        content_type="application/json",
    )
    assert answer.status_code == 422
    assert "write no direction of their own" in answer.content.decode()
