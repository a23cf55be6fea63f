"""Scripts: programs with their own training loop, which a run records from outside. Does not import torch."""
