"""What a layout's mapping may say of stored tensors: parts, transposes, other files, several side by side."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inference.dictionaries.config import DamagedDictionary, DictionaryConfig
from inference.dictionaries.formats.tensors import files_of, read_tensors, shape_of
from inference.dictionaries.storage import open_weights

D, F, LAYERS = 6, 10, 3


@pytest.fixture
def stored(tmp_path):
    draw = torch.Generator().manual_seed(0)
    tensors = {
        "W_enc": torch.randn(LAYERS, D, F, generator=draw),
        "W_dec": torch.randn(F, LAYERS, D, generator=draw),
        "b": torch.randn(LAYERS, D, generator=draw).bfloat16(),
    }
    save_file(tensors, tmp_path / "first.safetensors")
    save_file({"W_dec_1": tensors["W_dec"][:, 1].contiguous()}, tmp_path / "second.safetensors")
    np.savez(tmp_path / "params.npz", **{name: tensor.float().numpy() for name, tensor in tensors.items()})
    return tensors


def config(folder: Path, tensors: dict[str, str], *, file: str = "first.safetensors", n_points: int = 1):
    point = "+".join(f"blocks.{layer}.hook_resid_post" for layer in range(n_points))
    return DictionaryConfig(
        path=str(folder),
        weights=str(folder / file),
        format="test",
        architecture="relu",
        tensors=tensors,
        hook_in=point,
        hook_out=point,
        d_in=n_points * D,
        d_out=n_points * D,
        n_features=F,
    )


@pytest.mark.parametrize("file", ["first.safetensors", "params.npz"])
def test_parts_of_tensors_are_read(tmp_path, stored, file):
    read = read_tensors(
        config(tmp_path, {"w_enc_fd": "W_enc[2].T", "w_dec_fo": "W_dec[:,1]", "b_out_o": "b[1]"}, file=file)
    )
    assert torch.equal(read["w_enc_fd"], stored["W_enc"][2].T)
    assert torch.equal(read["w_dec_fo"], stored["W_dec"][:, 1])
    assert torch.equal(read["b_out_o"], stored["b"][1].float())


def test_tensors_lie_side_by_side(tmp_path, stored):
    told = {
        "w_enc_fd": "W_enc[0].T | W_enc[2].T",
        "w_dec_fo": "W_dec[:,0] | second.safetensors:W_dec_1",
        "b_out_o": "b[0] | b[1]",
    }
    read = read_tensors(config(tmp_path, told, n_points=2))
    assert torch.equal(read["w_enc_fd"], torch.cat([stored["W_enc"][0].T, stored["W_enc"][2].T], dim=1))
    assert torch.equal(read["w_dec_fo"], stored["W_dec"][:, :2].flatten(1))
    assert torch.equal(read["b_out_o"], stored["b"][:2].flatten().float())
    weights = open_weights(tmp_path / "first.safetensors")
    assert files_of(weights, told) == [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    assert shape_of(weights, told["w_enc_fd"]) == (F, 2 * D)


@pytest.mark.parametrize("expression", ["W_enc[3].T", "W_enc[0]", "W_dec[:,7]", "W_dec", "nothing", "b[0] | W_enc[0]"])
def test_what_is_not_there_is_damaged(tmp_path, stored, expression):
    with pytest.raises(DamagedDictionary):
        read_tensors(config(tmp_path, {"w_enc_fd": "W_enc[0].T", "w_dec_fo": expression}))


@pytest.mark.parametrize("file", ["first.safetensors", "params.npz"])
def test_what_begins_at_an_index_is_read_flat(tmp_path, stored, file):
    told = {"w_enc_fd": "W_enc[2].T", "w_dec_fo": "W_dec[:,1:]", "b_out_o": "b[1] | b[2]"}
    facts = config(tmp_path, told, file=file, n_points=2)
    assert shape_of(open_weights(tmp_path / file), told["w_dec_fo"]) == (F, 2 * D)
    read = read_tensors(replace(facts, hook_in="blocks.0.hook_resid_post", d_in=D))
    assert torch.equal(read["w_dec_fo"], stored["W_dec"][:, 1:].flatten(1))


def test_numbers_of_a_part_are_read_without_the_rest(tmp_path, stored):
    weights = open_weights(tmp_path / "first.safetensors")
    assert weights.numbers("W_dec", (4, 2)) == stored["W_dec"][4, 2].tolist()
