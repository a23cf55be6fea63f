"""Scripts: programs with a training loop of their own, which a run records from outside. Does not import torch."""
