"""overcomplete's dictionaries, saved as its users save them: the module's state, by torch.

A state does not hold how many features fire, so that the folder's facet.json says it.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from types import ModuleType

import torch

from tests.interop.generated import N_TOKENS, Case, Expected, K, Task, randomize

HOOK = "blocks.1.hook_resid_post"


def package() -> ModuleType:
    """Import overcomplete beside empty stands for torchvision, which only its vision models need."""
    for name in ("torchvision", "torchvision.transforms"):
        sys.modules.setdefault(name, ModuleType(name))
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    import overcomplete.sae

    return overcomplete.sae


def saved(task: Task, kind: str, facts: dict[str, object] | None = None, **settings: object) -> list[Expected]:
    """Build one of the classes, settle its dictionary as `eval` does, save its state."""
    if kind.startswith("RA"):
        settings["points"] = 2 * torch.randn(40, task.d_in, generator=torch.Generator().manual_seed(9))
    made = getattr(package(), kind)(task.d_in, task.n_features, **settings)
    randomize(made, thresholds=("thresholds",))
    made.train()
    made(task.inputs(3))  # running statistics; rows of weights that are probabilities
    made = made.to(task.dtype).float()  # rounded
    state = {name: w.to(task.dtype) if w.is_floating_point() else w for name, w in made.state_dict().items()}
    torch.save(state, task.folder / "sae.pt")
    stated = {"hook_in": HOOK, "dict_class": kind, **(facts or {})}
    if kind == "BatchTopKSAE":
        stated["threshold"] = float(made.running_threshold)
    (task.folder / "facet.json").write_text(json.dumps(stated))
    made.eval()
    x_td = task.inputs()
    _, a_tf = made.encode(x_td)
    return [Expected(path="sae.pt", x_td=x_td, a_tf=a_tf, y_to=made.decode(a_tf), facts={"hook_in": HOOK})]


CASES: dict[str, Case] = {
    "SAE": partial(saved, kind="SAE"),
    "TopKSAE": partial(saved, kind="TopKSAE", top_k=K, facts={"k": K}),
    "BatchTopKSAE": partial(saved, kind="BatchTopKSAE", top_k=K * N_TOKENS),
    "JumpSAE": partial(saved, kind="JumpSAE"),
    "MpSAE": partial(saved, kind="MpSAE", k=K, facts={"k": K}),
    "RATopKSAE": partial(saved, kind="RATopKSAE", top_k=K, facts={"k": K}),
    "RAJumpSAE": partial(saved, kind="RAJumpSAE"),
}
