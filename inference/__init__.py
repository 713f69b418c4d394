"""The engine: language models and their hook points, dictionaries, activations, steering, dashboards, explanations."""

import os

# OpenMP's threads spin at barriers by default: beside any other busy process a prompt then takes ten times as long.
# It is read once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
