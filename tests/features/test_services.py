"""Services: what they write, what they refuse, and how they say it."""

import json

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, transaction

from features import services
from features.models import Comment, Document, Explanation, FeatureList, ListMember, Run, VocabularyToken, Vote
from features.services.checks import RESERVED
from features.services.corpora import NewDocument, split_by_name
from features.services.explanations import MethodExplanation
from inference.dictionaries.config import DictionaryDoesNotFit
from inference.errors import Conflict, FacetError, InvalidInput, NotAllowed, NotFound, SignInRequired
from tests.features.conftest import METHOD, N_FEATURES
from tests.tiny import tiny_dictionary

SOURCE = "1-res-topk"


# --- models, dictionaries, corpora ---


def test_a_model_keeps_its_vocabulary(registered):
    tokens = VocabularyToken.objects.filter(model=registered.model).order_by("token_id")
    assert [token.text for token in tokens] == [text.replace("\0", "␀") for text in registered.parts.facts.vocabulary]
    assert tokens[42].folded == tokens[42].text.strip().casefold()


def test_a_model_is_added_twice_without_harm(registered):
    again = services.models.add_model(facts=registered.parts.facts, slug="tiny")
    assert again.pk == registered.model.pk


@pytest.mark.parametrize("slug", [*sorted(RESERVED)[:3], "Tiny", "a/b", "", "ü", "x" * 81])
def test_names_that_no_address_can_have_are_refused(parts, db, slug):
    with pytest.raises(InvalidInput) as error:
        services.models.add_model(facts=parts.facts, slug=slug)
    assert error.value.remedy


def test_every_fixed_page_is_reserved(db):
    from django.urls import get_resolver

    first = {str(pattern.pattern).split("/")[0] for pattern in get_resolver().url_patterns}
    fixed = {segment for segment in first if segment and not segment.startswith(("<", "^"))}
    assert fixed <= RESERVED | {"favicon.ico", "robots.txt"}


def test_other_weights_under_the_same_name_are_a_conflict(registered, tmp_path):
    from dataclasses import replace

    with pytest.raises(Conflict):
        services.models.add_model(facts=replace(registered.parts.facts, sha256="0" * 64), slug="tiny")
    other = tiny_dictionary(tmp_path, "topk", seed=5, d_sae=N_FEATURES, source=SOURCE)
    with pytest.raises(Conflict):
        services.dictionaries.add_dictionary(path=other, model="tiny")
    with pytest.raises(InvalidInput):
        services.dictionaries.add_dictionary(path=other, model="tiny", source="no layer")


def test_a_dictionary_of_another_width_names_both(registered, tmp_path):
    wide = tiny_dictionary(tmp_path, "topk", d_in=48)
    with pytest.raises(DictionaryDoesNotFit) as error:
        services.dictionaries.add_dictionary(path=wide, model="tiny")
    assert "48" in error.value.cause and "32" in error.value.cause
    with pytest.raises(NotFound) as error:
        services.dictionaries.add_dictionary(path=wide, model="tinny")
    assert error.value.details["suggestions"] == ["/tiny"]


@pytest.mark.parametrize(
    ("hook", "options", "source"),
    [
        ("blocks.1.hook_resid_post", {"source": "folder"}, "1-res-topk"),
        ("blocks.0.attn.hook_z", {"source": "folder"}, "0-att-topk"),
        ("blocks.1.hook_resid_pre", {"source": "1-my_set"}, "1-my_set"),
        ("blocks.1.hook_resid_pre", {"source": "2-my_set"}, "1-respre-topk"),
    ],
)
def test_source_ids_are_derived_from_layer_and_set(parts, db, tmp_path, hook, options, source):
    services.models.add_model(facts=parts.facts, slug="tiny")
    folder = tiny_dictionary(tmp_path, "topk", hook, **options)
    assert services.dictionaries.add_dictionary(path=folder, model="tiny").source == source


def test_dictionaries_of_one_kind_are_told_apart_by_their_paths(registered, tmp_path):
    seeds = {"a": 7, "b": 8}
    folders = [tiny_dictionary(tmp_path / name, "topk", source="sae", seed=seed) for name, seed in seeds.items()]
    add = services.dictionaries.add_dictionary
    rows = [add(path=folder, model="tiny", source="") for folder in folders]
    assert len({row.source for row in rows}) == 2
    assert [row.source for row in rows] == ["1-res-topk-sae", "1-res-topk-b-sae"]
    # Once more is not another dictionary.
    assert [add(path=folder, model="tiny").pk for folder in folders] == [row.pk for row in rows]


def test_the_models_own_neurons_are_a_dictionary(registered):
    row = services.dictionaries.add_dictionary(path="neurons:1", model="tiny")
    assert (row.source, row.hook_point, row.hook_point_out) == (
        "1-neurons",
        "blocks.1.mlp.hook_post",
        "blocks.1.hook_mlp_out",
    )
    assert row.path.endswith("#neurons:1")
    assert row.n_features == row.model.d_mlp
    with pytest.raises(NotFound):
        services.dictionaries.add_dictionary(path="neurons:99", model="tiny")


def test_a_corpus_is_what_it_was_added_with(registered, tmp_path):
    again = services.corpora.add_corpus(name="Some files", documents=registered.parts.documents)
    assert again.pk == registered.corpus.pk and Document.objects.count() == 3
    with pytest.raises(Conflict):
        services.corpora.add_corpus(name="Some files", documents=registered.parts.documents[:1])
    with pytest.raises(InvalidInput):
        services.corpora.add_corpus(name="empty", documents=[])
    with pytest.raises(NotFound) as error:
        services.corpora.add_corpus(name="gone", documents=[NewDocument(name="x", path=tmp_path / "x")])
    assert "No such file" in error.value.cause


def test_one_name_in_ten_is_for_tests():
    splits = [split_by_name(f"file_{number}.py") for number in range(2000)]
    assert 150 < splits.count("test") < 250


# --- labels, votes, comments, lists ---


def test_writing_needs_an_account(world):
    dictionary = world.dictionaries[SOURCE].pk
    address = {"dictionary": dictionary, "index": 1}
    writes = [
        lambda user: services.explanations.label(**address, text="x", user=user),
        lambda user: services.votes.cast(explanation=1, value=1, user=user),
        lambda user: services.comments.add(**address, text="x", user=user),
        lambda user: services.lists.create(name="x", user=user),
    ]
    for write in writes:
        for user in (None, AnonymousUser()):
            with pytest.raises(SignInRequired):
                write(user)


@pytest.mark.parametrize("text", ["", "  \n", "x" * 501])
def test_labels_have_some_words_and_not_too_many(world, user, text):
    with pytest.raises(InvalidInput):
        services.explanations.label(dictionary=world.dictionaries[SOURCE].pk, index=1, text=text, user=user)


def test_what_people_write_survives_a_rebuild(world, user, other):
    dictionary, index = world.dictionaries[SOURCE].pk, world.busiest()
    label = services.explanations.label(dictionary=dictionary, index=index, text="by \0 hand \ud800", user=user)
    comment = services.comments.add(dictionary=dictionary, index=index, text="indeed", user=other)
    row = services.lists.create(name="kept", user=user)
    services.lists.add_member(list=row.pk, dictionary=dictionary, index=index, user=user)
    by_method = Explanation.objects.get(dictionary=dictionary, index=index, method=METHOD)
    services.votes.cast(explanation=by_method.pk, value=1, user=other)
    world.attach()
    assert Explanation.objects.get(pk=label.pk).text == "by ␀ hand �"
    assert Comment.objects.filter(pk=comment.pk).exists() and ListMember.objects.filter(list=row).exists()
    # The method said the same again, so its explanation and the vote on it stay too.
    assert Explanation.objects.get(pk=by_method.pk).votes == 1


def test_votes_on_a_statement_go_when_the_statement_changes(world, user):
    dictionary = world.dictionaries[SOURCE].pk

    def store(*texts):
        said = [MethodExplanation(index, text, {"n": index}) for index, text in enumerate(texts)]
        return services.explanations.add(dictionary=dictionary, method="m", explanations=said)

    assert store("same", "old", "gone") == 3
    rows = {row.index: row for row in Explanation.objects.filter(dictionary_id=dictionary, method="m")}
    for row in rows.values():
        services.votes.cast(explanation=row.pk, value=1, user=user)
    assert store("same", "new") == 2
    after = {row.index: row for row in Explanation.objects.filter(dictionary_id=dictionary, method="m")}
    assert {index: (row.pk, row.text, row.votes) for index, row in after.items()} == {
        0: (rows[0].pk, "same", 1),
        1: (rows[1].pk, "new", 0),
    }
    assert Vote.objects.filter(user=user).count() == 1


def test_a_person_has_one_vote(world, user, other):
    explanation = Explanation.objects.first().pk
    cast = services.votes.cast
    assert [cast(explanation=explanation, value=value, user=user) for value in (1, 1, -1, -1, 0, 0, 1)] == [
        1, 1, -1, -1, 0, 0, 1,
    ]  # fmt: skip
    assert cast(explanation=explanation, value=1, user=other) == 2
    with pytest.raises(IntegrityError), transaction.atomic():
        Vote.objects.create(explanation_id=explanation, user=user, value=1)
    with pytest.raises(InvalidInput):
        cast(explanation=explanation, value=2, user=user)
    with pytest.raises(NotFound):
        cast(explanation=10**9, value=1, user=user)


def test_only_authors_take_back_what_they_wrote(world, user, other):
    dictionary = world.dictionaries[SOURCE].pk
    label = services.explanations.label(dictionary=dictionary, index=1, text="x", user=user)
    comment = services.comments.add(dictionary=dictionary, index=1, text="x", user=user)
    row = services.lists.create(name="x", user=user)
    for undo in (
        lambda who: services.explanations.delete(explanation=label.pk, user=who),
        lambda who: services.comments.delete(comment=comment.pk, user=who),
        lambda who: services.lists.delete(list=row.pk, user=who),
    ):
        with pytest.raises(NotAllowed):
            undo(other)
        undo(user)
        with pytest.raises(NotFound):
            undo(user)
    with pytest.raises(NotAllowed):
        services.explanations.delete(explanation=Explanation.objects.filter(author=None).first().pk, user=user)


def test_lists_are_renamed_and_emptied(world, user):
    dictionary = world.dictionaries[SOURCE].pk
    row = services.lists.create(name=" a ", user=user)
    services.lists.create(name="b", user=user)
    with pytest.raises(Conflict):
        services.lists.create(name="a", user=user)
    with pytest.raises(Conflict):
        services.lists.rename(list=row.pk, name="b", user=user)
    services.lists.rename(list=row.pk, name="c", user=user, description="d")
    assert FeatureList.objects.get(pk=row.pk).name == "c"
    with pytest.raises(InvalidInput, match="2,001"):
        services.lists.rename(list=row.pk, name="c", user=user, description="d" * 2001)
    services.lists.add_member(list=row.pk, dictionary=dictionary, index=1, user=user)
    for _ in range(2):
        services.lists.remove_member(list=row.pk, dictionary=dictionary, index=1, user=user)
    assert not ListMember.objects.exists()
    with pytest.raises(NotFound) as error:
        services.lists.add_member(list=row.pk, dictionary=dictionary, index=N_FEATURES, user=user)
    assert error.value.details["suggestions"] == [f"/tiny/{SOURCE}/{N_FEATURES - 1}"]


# --- runs ---


def queued(world, *sources, **options):
    ids = [world.dictionaries[source].pk for source in sources or world.dictionaries]
    return services.runs.create_build(dictionaries=ids, **options)


def test_two_builds_of_one_dictionary_at_once_are_refused(registered):
    first = queued(registered, SOURCE)
    with pytest.raises(Conflict) as error:
        queued(registered)
    assert error.value.details["run"] == first
    queued(registered, "2-res-jump")
    services.runs.start(run=first)
    services.runs.finish(run=first)
    queued(registered, SOURCE)


def test_a_build_says_what_it_lacks(registered):
    with pytest.raises(NotFound):
        queued(registered, corpus="none")
    with pytest.raises(InvalidInput):
        queued(registered, n_tokens=0)
    with pytest.raises(NotFound):
        services.runs.create_build(dictionaries=[10**6])
    services.corpora.add_corpus(name="second", documents=registered.parts.documents)
    with pytest.raises(InvalidInput) as error:
        queued(registered)
    assert "second" in error.value.remedy


def test_the_life_of_a_run(registered):
    run = queued(registered)
    assert services.runs.start(run=run)
    assert services.runs.start(run=run), "whoever holds a run may take it up again"
    assert services.runs.progress(run=run, phase="encode", done=1, total=2, unit="tokens", rate=1.0) is False
    services.runs.cancel(run=run)
    assert services.runs.progress(run=run, phase="encode", done=2, total=2) is True
    services.runs.stop(run=run)
    assert not services.runs.start(run=run), "a message that comes late starts nothing"
    with pytest.raises(Conflict):
        services.runs.cancel(run=run)
    services.runs.resume(run=run)
    row = Run.objects.get(pk=run)
    assert (row.state, row.cancel_requested, row.error) == ("queued", False, "")
    services.runs.start(run=run)
    services.runs.fail(run=run, error=FacetError("The disk is full.", "Free some room."))
    row = Run.objects.get(pk=run)
    assert (row.state, row.error, row.remedy) == ("failed", "The disk is full.", "Free some room.")


def test_a_run_is_stopped_and_resumed_by_who_started_it_and_by_staff(registered):
    make = get_user_model().objects.create_user
    ada, bob, staff = make("ada2"), make("bob2"), make("grace2", is_staff=True)
    run = queued(registered, user=ada)
    with pytest.raises(NotAllowed) as error:
        services.runs.cancel(run=run, user=bob)
    assert "ada2" in error.value.cause and "staff" in error.value.remedy
    with pytest.raises(SignInRequired):
        services.runs.cancel(run=run, user=AnonymousUser())
    assert Run.objects.get(pk=run).state == "queued"
    services.runs.cancel(run=run, user=ada)
    with pytest.raises(NotAllowed):
        services.runs.resume(run=run, user=bob)
    services.runs.resume(run=run, user=staff)
    Run.objects.filter(pk=run).update(created_by=None)
    with pytest.raises(NotAllowed) as error:
        services.runs.cancel(run=run, user=ada)
    assert "by a command" in error.value.cause
    services.runs.cancel(run=run, user=staff)


def test_a_run_whose_worker_is_gone_is_queued_again_unless_it_was_to_stop(registered):
    run = queued(registered)
    assert not services.runs.requeue(run=run)
    services.runs.start(run=run)
    assert services.runs.requeue(run=run)
    assert Run.objects.get(pk=run).state == "queued"
    services.runs.start(run=run)
    services.runs.cancel(run=run)
    assert not services.runs.requeue(run=run)
    assert Run.objects.get(pk=run).state == "cancelled"


def test_errors_are_json(world):
    try:
        services.runs.cancel(run=10**6)
    except FacetError as error:
        assert json.loads(json.dumps(error.as_dict()))["status"] == 404
