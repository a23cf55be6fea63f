"""Bit-identical training on any number of devices: each batch is split into shards, whose gradients are summed in a fixed order."""
