"""Dictionaries that packages with environments of their own wrote, loaded here, give what these packages compute."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from explorer.local.layout import CHECKOUT
from inference.dictionaries import load_dictionary
from inference.dictionaries.dictionary import Dictionary
from tests.interop import environments
from tests.interop.generated import PACKAGES, Expected, cases_of, read

pytestmark = pytest.mark.packages

TOLERANCE = 1e-5


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Run each package once, in its environment, when the first of its cases asks."""
    folders: dict[str, Path] = {}

    def of(package: str) -> Path:
        if reason := environments.missing(package):
            pytest.skip(reason)
        if package not in folders:
            folder = folders[package] = tmp_path_factory.mktemp(package)
            command = [environments.python_of(package), "-m", "tests.interop.generated", package, folder]
            env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
            subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, check=False)
        return folders[package]

    return of


@pytest.mark.parametrize(
    ("package", "case"), [pytest.param(p, case, id=f"{p}-{case}") for p in PACKAGES for case in cases_of(p)]
)
def test_package(generated: Callable[[str], Path], package: str, case: str) -> None:
    folder = generated(package)
    answers = read(folder, case)
    assert answers
    for answer in answers:
        dictionary = load_dictionary(str(folder / case / answer.path), device="cpu")
        check(dictionary, answer)


def check(dictionary: Dictionary, expected: Expected) -> None:
    """Assert that active sets are the same, and activations and outputs within TOLERANCE of their size."""
    x_td, a_tf, y_to = expected.x_td, expected.a_tf, expected.y_to
    assert {name: getattr(dictionary, name) for name in expected.facts} == expected.facts
    told = {"lengths": list(expected.lengths)} if expected.lengths else {}
    activations = dictionary.encode(x_td, **told)
    ours_tf = activations.dense()
    assert 0 < (a_tf != 0).sum() < a_tf.numel(), "a case in which nothing or everything fires proves little"
    assert torch.equal(ours_tf != 0, a_tf != 0)
    chosen = list(range(0, dictionary.n_features, 13))
    compared = [(ours_tf, a_tf), (dictionary.encode_features(x_td, chosen, **told), a_tf[:, chosen])]
    if y_to is not None:
        compared.append((dictionary.decode(activations, x_td, **told), y_to))
    for ours, theirs in compared:
        assert float((ours - theirs).norm() / theirs.norm()) < TOLERANCE
