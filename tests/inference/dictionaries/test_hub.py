import time

import pytest

from inference.dictionaries.config import SeveralDictionaries
from inference.dictionaries.hub import DiskTooSmall, NoHub, check_download, local_path

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
