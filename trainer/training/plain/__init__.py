"""Experiments that are a plain LightningModule: settings from constructors, the order of their data, their logged results."""
