"""Tasks: what a net is trained for. One module a kind; `task` is what they share."""
