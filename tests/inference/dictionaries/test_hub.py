import time
from dataclasses import replace

import pytest
from huggingface_hub import constants

from inference.dictionaries import load_dictionary, read_config
from inference.dictionaries.config import SeveralDictionaries
from inference.dictionaries.hub import DiskTooSmall, NoHub, check_download, local_path
from tests.inference.dictionaries.hub_server import COMMIT, serving
from tests.tiny import tiny_dictionary

# Nothing listens on port 9.
NOWHERE = "http://127.0.0.1:9"


def test_paths_are_paths(tmp_path):
    assert local_path(str(tmp_path)) == tmp_path
    assert str(local_path("./a/b")) == "a/b"
    assert str(local_path("/nowhere/at/all")) == "/nowhere/at/all"


def test_a_hub_id_without_network_fails_at_once():
    started = time.monotonic()
    with pytest.raises(NoHub, match=r"does not answer|HF_HUB_OFFLINE") as caught:
        local_path("facet-tests/no-such-repository@0123:layer_1", endpoint=NOWHERE)
    assert time.monotonic() - started < 15
    assert "name the folder" in caught.value.remedy
    assert "\n" not in caught.value.cause


def test_a_repository_of_many_lists_its_folders():
    sizes = {"README.md": 10, "layer_1/params.npz": 10, "layer_2/params.npz": 10}
    with pytest.raises(SeveralDictionaries, match="2 folders") as caught:
        check_download("a/b@main", sizes, free_bytes=1000)
    assert caught.value.details["suggestions"] == ["a/b@main:layer_1", "a/b@main:layer_2"]


def test_a_download_larger_than_the_disk_is_refused():
    with pytest.raises(DiskTooSmall, match=r"200\.0 GB, and .* 5\.0 GB free"):
        check_download("a/b", {"sae.safetensors": 200_000_000_000}, free_bytes=5_000_000_000)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    # For this process, whose client has read its settings, and for the one that downloads.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return folder


def test_a_dictionary_is_fetched_at_its_commit_and_found_again_without_a_network(tmp_path, cache):
    repository = tmp_path / "repository"
    for source in ("layer_1", "layer_10"):
        tiny_dictionary(repository, "jumprelu", source=source)
    with serving("facet-tests/saes", repository) as (hub, requests):
        fetched = local_path(f"facet-tests/saes@{COMMIT}:layer_1", endpoint=hub)
        assert not any("layer_10" in request for request in requests)
    config = read_config(fetched)
    assert config == replace(read_config(repository / "layer_1"), path=config.path, weights=config.weights)
    assert COMMIT in config.path
    assert load_dictionary(fetched, device="cpu").n_features == config.n_features
    assert local_path(f"facet-tests/saes@{COMMIT}:layer_1", endpoint=NOWHERE) == fetched
    assert local_path(f"facet-tests/saes@{COMMIT}:layer_1#3", endpoint=NOWHERE) == fetched.with_name("layer_1#3")


def test_a_repository_that_the_hub_does_not_have_is_said_to_be_missing(tmp_path, cache):
    with serving("facet-tests/saes", tmp_path) as (hub, _), pytest.raises(NoHub, match="no such repository"):
        local_path(f"facet-tests/others@{COMMIT}", endpoint=hub)
