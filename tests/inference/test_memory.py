from dataclasses import dataclass

import pytest
import torch

from inference.memory import ByteLRU
from inference.threads import suited_to


@dataclass(frozen=True)
class Item:
    n_bytes: int


def test_what_was_used_least_recently_goes_first():
    cache = ByteLRU(10)
    for key in "ab":
        cache.get(key, lambda: Item(4))
    cache.get("a", lambda: pytest.fail("a is here"))
    cache.get("c", lambda: Item(4))
    assert cache.keys() == ("a", "c")
    assert cache.n_bytes == 8


def test_an_item_larger_than_the_capacity_is_kept_alone():
    cache = ByteLRU(10)
    cache.get("small", lambda: Item(1))
    assert cache.get("large", lambda: Item(99)).n_bytes == 99
    assert cache.keys() == ("large",)


def test_a_failed_load_leaves_nothing():
    cache = ByteLRU(10)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: Item(1 // 0))
    assert cache.keys() == ()
    cache.discard("a")


@pytest.mark.parametrize(("n_weight_bytes", "n_threads"), [(1000, 1), (10**9, 2)], ids=["small", "large"])
def test_small_work_runs_on_one_thread(n_weight_bytes, n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with suited_to(n_weight_bytes=n_weight_bytes, n_tokens=10, device=torch.device("cpu")):
        assert torch.get_num_threads() == n_threads
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
