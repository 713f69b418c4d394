"""Fidelity equals what SAELens measures on the same tokens, where both mean the same; where not, by how much follows.

What differs is stated in docs/evaluation.md: SAELens ablates BOS too, counts the divergence of the last position of a
context, which predicts no token that is there, and averages an explained variance of single tokens as its legacy one.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inference.dashboards.corpus import read_contexts
from inference.dashboards.results import DocumentRef
from inference.dictionaries import load_dictionary
from inference.evaluation import evaluate
from tests.inference.lens import in_transformer_lens
from tests.tiny import TEXT, tiny_dictionary

pytestmark = pytest.mark.interop

WIDTH, BATCH = 32, 4
KINDS = {
    "relu": ("standard", "blocks.0.hook_resid_post"),
    "topk": ("topk", "blocks.1.hook_resid_post"),
    "jumprelu": ("jumprelu", "blocks.1.hook_resid_post"),
    "attention": ("topk", "blocks.1.attn.hook_z"),
}


def full_contexts(model, folder, prepend_bos):
    """Return contexts that are all WIDTH long, since SAELens packs text and knows no padding, in whole batches."""
    path = folder / "text.py"
    path.write_text("".join(f"{TEXT}x{number} = {number}\n" for number in range(30)))
    document = DocumentRef(ordinal=0, name=path.name, path=str(path))
    table, _ = read_contexts(model, [document], n_tokens=900, context_size=WIDTH, prepend_bos=prepend_bos)
    count = len(table) // BATCH * BATCH - BATCH
    assert (np.diff(table.indptr_c)[:count] == WIDTH).all()
    return replace(table, text=table.text[:count], indptr_c=table.indptr_c[: count + 1],
                   token_ids_t=table.token_ids_t[: count * WIDTH])  # fmt: skip


def in_sae_lens(lens, sae, rows, bos_id):
    """Return SAELens' figures, and its losses and divergences at every position."""
    from datasets import Dataset
    from sae_lens import evals
    from sae_lens.training.activation_scaler import ActivationScaler
    from sae_lens.training.activations_store import ActivationsStore

    store = ActivationsStore(
        lens,
        Dataset.from_dict({"tokens": rows.tolist()}),
        streaming=False,
        hook_name=sae.cfg.metadata.hook_name,
        hook_head_index=None,
        context_size=WIDTH,
        d_in=sae.cfg.d_in,
        n_batches_in_buffer=2,
        total_training_tokens=rows.size,
        store_batch_size_prompts=BATCH,
        train_batch_size_tokens=BATCH * WIDTH,
        prepend_bos=bos_id is not None,
        normalize_activations="none",
        device=torch.device("cpu"),
        dtype="float32",
    )
    batches = len(rows) // BATCH
    wanted = evals.EvalConfig(
        batch_size_prompts=BATCH,
        n_eval_reconstruction_batches=batches,
        n_eval_sparsity_variance_batches=batches,
        compute_kl=True,
        compute_ce_loss=True,
        compute_sparsity_metrics=True,
        compute_variance_metrics=True,
    )
    special = [bos_id] if bos_id is not None else False
    figures, _ = evals.run_evals(sae, store, lens, ActivationScaler(), wanted, exclude_special_tokens=special)
    found = {key: value for group in figures.values() for key, value in group.items()}
    if "hook_z" in sae.cfg.metadata.hook_name:
        sae.turn_off_forward_pass_hook_z_reshaping()
    each = evals.get_recons_loss(
        sae, lens, ActivationScaler(), torch.from_numpy(rows), True, True, special or None
    )  # fmt: skip
    return found, {key: value.double() for key, value in each.items()}


@pytest.mark.parametrize("prepend_bos", [True, False], ids=["BOS", "no BOS"])
@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_those_of_sae_lens(gpt2, model_folders, tmp_path, kind, prepend_bos):
    sae_lens = pytest.importorskip("sae_lens", exc_type=ImportError)
    pytest.importorskip("transformer_lens", exc_type=ImportError)
    link = tmp_path / "model"
    link.symlink_to(model_folders["gpt2"])
    saved = tiny_dictionary(tmp_path, *KINDS[kind])
    table = full_contexts(gpt2, tmp_path, prepend_bos)
    ours = evaluate(gpt2, {kind: load_dictionary(saved, device="cpu")}, table)[kind]
    sae = sae_lens.SAE.load_from_disk(str(saved), device="cpu")
    sae.cfg.metadata.hook_name = KINDS[kind][1]
    rows = table.token_ids_t.astype(np.int64).reshape(-1, WIDTH)
    lens = in_transformer_lens(gpt2, link)
    theirs, each = in_sae_lens(lens, sae, rows, gpt2.bos_id if prepend_bos else None)

    near = lambda value: pytest.approx(value, rel=2e-4)  # noqa: E731
    assert ours.l0_mean == near(theirs["l0"])
    assert ours.mean_squared_error == near(theirs["mse"])
    assert ours.explained_variance == near(theirs["explained_variance"])
    assert ours.ce_clean == near(theirs["ce_loss_without_sae"])
    assert ours.ce_spliced == near(theirs["ce_loss_with_sae"])
    # Positions that predict a token which is there.
    first = int(prepend_bos)
    assert ours.kl_spliced == near(each["kl_div_with_sae"][:, first:-1].mean().item())
    assert theirs["kl_div_with_sae"] == near(each["kl_div_with_sae"][:, first:].mean().item())
    if not prepend_bos:
        assert ours.ce_ablated == near(theirs["ce_loss_with_ablation"])
        # A share of two differences, the lesser of which is small in a random model.
        assert ours.ce_recovered == pytest.approx(theirs["ce_loss_score"], rel=2e-3)
        assert ours.kl_ablated == near(each["kl_div_with_ablation"][:, :-1].mean().item())
    else:
        # SAELens ablates BOS as well, which later tokens attend to.
        assert ours.ce_ablated != near(theirs["ce_loss_with_ablation"])
    assert ours.explained_variance != near(theirs["explained_variance_legacy"])
