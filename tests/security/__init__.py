"""Attacks by another user of a shared store or cache: the threat model of docs/security.md."""
