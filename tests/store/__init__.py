"""Stores: one contract, every adapter."""
