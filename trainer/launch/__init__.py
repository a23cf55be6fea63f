"""Start and control commands in containers and processes, and run the smoke test of an image."""
