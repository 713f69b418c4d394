"""What Triton kernels share: one tile of pre-activations, computed the same way wherever it is needed."""
