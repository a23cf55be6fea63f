"""Tests of the commands by their command lines."""
