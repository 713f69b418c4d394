"""Operations on activations and dictionaries that are worth a kernel of their own, an operation a folder.

In each folder `reference.py` is the definition: plain, dense, in whatever precision it is given; tests hold everything
else to it in float64. `cpu.py` is what CPUs run, chosen by measurement, `triton.py` what CUDA runs, and `__init__.py`
chooses between them by device and size. `docs/kernels.md` has the measurements.
"""
