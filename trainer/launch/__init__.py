"""Controlling and inspecting containers of runs, and the smoke test of an image."""
