"""The bundled demonstration: a small language model of Python source, its dictionaries, and what made them."""
