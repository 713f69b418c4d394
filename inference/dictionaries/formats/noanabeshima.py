"""Nabeshima's Matryoshka SAEs: a .pt or .safetensors file with normalizer.running_avg.

    s = sqrt(D) / avg;  a = relu(s x W_enc + b_enc) |W_dec| / s;  y = a W_dec / |W_dec| + b_dec / s

Activations are in units of what they write, at the model's own scale, as its get_acts returns them. Any prefix of the
features is a dictionary: prefixes were drawn at random in training, so there are no fixed groups.
https://github.com/noanabeshima/matryoshka-saes
"""

from __future__ import annotations

from inference.dictionaries.config import DictionaryConfig
from inference.dictionaries.formats.names import hook_point
from inference.dictionaries.formats.place import Place, Verdict, no, yes
from inference.dictionaries.storage import damaged

LAYOUT = "one file with normalizer.running_avg, W_enc, b_enc, W_dec and b_dec"
ARCHITECTURES = {"matryoshka": "relu"}
TENSORS = {"w_enc_fd": "W_enc.T", "b_enc_f": "b_enc", "w_dec_fo": "W_dec", "b_out_o": "b_dec"}
AVERAGE = "normalizer.running_avg"


def detect(place: Place) -> Verdict:
    content = place.content
    if content is None:
        return no("no single file of weights")
    missing = [name for name in (AVERAGE, "W_enc", "b_enc", "W_dec", "b_dec") if name not in content]
    return no(f"{content.path.name} has no {missing[0]}") if missing else yes(f"{content.path.name} has {AVERAGE}")


def read_config(place: Place) -> DictionaryConfig:
    weights = place.content
    average = weights.numbers(AVERAGE)[0]
    if not 0 < average < float("inf"):
        raise damaged(weights.path, f"{AVERAGE} is {average}", tensor=AVERAGE)
    scale = weights.shape("W_enc")[0] ** 0.5 / average
    return place.describe(
        weights,
        format="noanabeshima",
        by_file=True,
        architecture="relu",
        tensors=TENSORS,
        hook_in=next((found for part in reversed(place.path.parts) if (found := hook_point(part))), None),
        input_scale=scale,
        output_scale=scale,
        scale_by_decoder_norm=True,
        evidence=(
            f"{weights.path.name} has {AVERAGE}, {average:.4g}, as Nabeshima's Matryoshka SAEs do.",
            "Activations are in units of what they write.",
        ),
    )
