"""Training on any number of devices with the same bits: each batch has shards, whose gradients are summed in one order."""
