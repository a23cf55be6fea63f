"""Starting and controlling commands in containers and processes, and the smoke test of an image."""
