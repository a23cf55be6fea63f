"""Environments: declaration, build, pin, engine, inventory."""
