"""Logs: metrics, telemetry and progress of a training run."""
