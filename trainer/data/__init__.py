"""Datasets: their declaration, manifest, packs and splits; publishing, fetching, caching and reading."""
