"""Datasets: declaration, manifest, packing, splits, publishing and fetching."""
