"""Tests of the ports to the machine."""
