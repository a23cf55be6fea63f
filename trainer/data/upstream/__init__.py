"""Files that another server publishes: list them, download and verify them, and notice when they change."""
