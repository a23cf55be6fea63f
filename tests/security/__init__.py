"""Attacks by other users of a shared store, cache or runs folder: the threat model in docs/security.md."""
