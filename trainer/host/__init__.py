"""Ports to the machine: each module touches one thing outside the process."""
