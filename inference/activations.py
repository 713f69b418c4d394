"""Reading and changing activations at hook points of a running model.

Shape suffixes: B batch, T tokens, D width of the hook point. Heads' outputs are always flat: heads * d_head wide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from inference.hook_points import HookPoint, Norm, Site, parts
from inference.language_models import LanguageModel
from inference.norms import normalize, rescale

# Takes the activations x_btd at a hook point and returns what to put in their place, or None to leave them.
Visitor = Callable[[Tensor], Tensor | None]


class _AllCaptured(Exception):
    """Unwinds a forward pass that has shown all that was asked of it."""


@torch.inference_mode()
def capture(
    model: LanguageModel, ids_bt: Tensor, hook_names: Iterable[str], *, attention_mask_bt: Tensor | None = None
) -> dict[str, Tensor]:
    """Run the model and return x_btd at each hook point; the run stops behind the deepest of them.

    At a name that joins several hook points by `+`, their activations lie side by side. Companions whose hook points
    are asked for run too, on the same ids, each as far as it must.

    Padding goes on the right. At a hook point that is `spliced` the changed value is returned, except where a norm
    is at work, which is at normalized hook points and at Phi's `hook_mlp_in`: there the value before the change.
    Clone the tensors to train on them: they are inference tensors. Raises UnknownHookPoint.
    """
    asked = list(dict.fromkeys(hook_names))
    names = list(dict.fromkeys(part for name in asked for part in parts(name)))
    captured: dict[str, Tensor] = {}
    homes = {name: model.home(name) for name in names}
    for home in dict.fromkeys(homes.values()):
        own = [name for name in names if homes[name] is home]
        with visited(model, _keepers(captured, own)), suppress(_AllCaptured):
            home.base(input_ids=ids_bt, attention_mask=attention_mask_bt, use_cache=False)
    return {name: side_by_side(captured, name) for name in asked}


def _keepers(captured: dict[str, Tensor], names: list[str]) -> dict[str, Visitor]:
    """Return visitors that keep what they see, and end the pass when all of them have."""
    missing = set(names)

    def keep(name: str, x_btd: Tensor) -> None:
        captured[name] = x_btd
        missing.discard(name)
        if not missing:
            raise _AllCaptured

    return {name: partial(keep, name) for name in names}


def side_by_side(x: Mapping[str, Tensor], hook_name: str) -> Tensor:
    """Return the activations at a hook point, or those at several joined ones, from what was seen at each."""
    at_each = [x[part] for part in parts(hook_name)]
    return at_each[0] if len(at_each) == 1 else torch.cat(at_each, dim=-1)


def at_each_point(hook_name: str, y_o: Tensor) -> dict[str, Tensor]:
    """Return for each of the hook points that a name joins its share of what lies side by side along the last axis."""
    names = parts(hook_name)
    return dict(zip(names, y_o.chunk(len(names), dim=-1), strict=True))


def spliced(model: LanguageModel, edits: Mapping[str, Callable[[Tensor], Tensor]]) -> AbstractContextManager[None]:
    """While the context lasts, put edit(x_btd) in the place of x_btd at each hook point of `edits`.

    What is downstream of the hook point, and only that, sees the change: a changed `hook_mlp_in` goes to the MLP and
    not into the residual stream, a changed `hook_resid_mid` goes to both. Only the model's own hook points are changed:
    an edit at one of a companion does nothing.
    """
    return visited(model, {name: edit for name, edit in edits.items() if model.home(name) is model})


@contextmanager
def visited(model: LanguageModel, visitors: Mapping[str, Visitor]) -> Iterator[None]:
    """Call each visitor with its hook point's activations in every forward pass of the model that has it.

    It lasts as long as the context. Visitors see the passes of the thread that entered the context and no others.
    """
    with ExitStack() as stack:
        for name, visitor in visitors.items():
            home, (point, site) = model.home(name), model.resolve(name)
            for module, end, hook in _hooks(home, site, _of_head(visitor, point, home.d_head)):
                register = module.register_forward_pre_hook if end == "input" else module.register_forward_hook
                stack.callback(register(_in_this_thread(hook), with_kwargs=True).remove)
        yield


def _hooks(model: LanguageModel, site: Site, visitor: Visitor) -> list[tuple[nn.Module, str, Callable]]:
    """Return the hooks that show a site to a visitor: the module, which end of it, and the function."""
    module = model.module.get_submodule(site.module)
    if site.only_for is not None:
        remember, visit = _branch_visitors(model, module, site, visitor)
        reader = model.module.get_submodule(site.only_for)
        return [(module, "input", _input_hook(remember)), (reader, "input", _input_hook(visit))]
    if site.normalized:
        return [(module, "output", _normalized_hook(model.family.norm, visitor))]
    if site.plus_input_of is not None:
        remember, visit = _sum_visitors(visitor)
        container = model.module.get_submodule(site.plus_input_of)
        return [(container, "input", _input_hook(remember)), (module, "output", _output_hook(visit))]
    return [(module, site.end, (_input_hook if site.end == "input" else _output_hook)(visitor))]


def _in_this_thread(hook: Callable) -> Callable:
    owner = get_ident()

    def guarded(*args: Any) -> Any:
        return hook(*args) if get_ident() == owner else None

    return guarded


def _input_hook(visitor: Visitor) -> Callable:
    def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        changed = visitor(_input(args, kwargs))
        if changed is None:
            return None
        if args:
            return (changed, *args[1:]), kwargs
        return args, kwargs | {"hidden_states": changed}

    return hook


def _output_hook(visitor: Visitor) -> Callable:
    def hook(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        changed = visitor(output[0] if isinstance(output, tuple) else output)
        if changed is not None and isinstance(output, tuple):
            return (changed, *output[1:])
        return changed

    return hook


def _normalized_hook(norm: Norm, visitor: Visitor) -> Callable:
    def hook(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> Tensor | None:
        changed = visitor(normalize(_input(args, kwargs), module, norm))
        return None if changed is None else rescale(changed, module, norm).to(output.dtype)

    return hook


def _branch_visitors(model: LanguageModel, module: nn.Module, site: Site, visitor: Visitor) -> tuple[Visitor, Visitor]:
    """Return visitors of a norm's input and of what one of its readers gets; changes reach that reader alone."""
    norm = model.family.norm
    entered: list[Tensor] = []

    def remember(x_btd: Tensor) -> None:
        entered[:] = [x_btd]

    def visit(read_btd: Tensor) -> Tensor | None:
        changed = visitor(normalize(entered[0], module, norm) if site.normalized else entered[0])
        if changed is None:
            return None
        normalized = changed if site.normalized else normalize(changed, module, norm)
        return rescale(normalized, module, norm).to(read_btd.dtype)

    return remember, visit


def _sum_visitors(visitor: Visitor) -> tuple[Visitor, Visitor]:
    """Return visitors of a container's input and of what a module in it adds, which show and change their sum."""
    entered: list[Tensor] = []

    def remember(x_btd: Tensor) -> None:
        entered[:] = [x_btd]

    def visit(written_btd: Tensor) -> Tensor | None:
        x_btd = entered[0] + written_btd
        changed = visitor(x_btd)
        return None if changed is None else written_btd + (changed - x_btd)

    return remember, visit


def _of_head(visitor: Visitor, point: HookPoint, d_head: int) -> Visitor:
    """Return a visitor of all heads that shows and changes only the point's head."""
    if point.head is None:
        return visitor
    head = slice(point.head * d_head, (point.head + 1) * d_head)

    def visit(x_btd: Tensor) -> Tensor | None:
        changed = visitor(x_btd[..., head])
        if changed is None:
            return None
        x_btd = x_btd.clone()
        x_btd[..., head] = changed
        return x_btd

    return visit


def _input(args: tuple, kwargs: dict) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]
