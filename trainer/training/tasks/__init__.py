"""Tasks: the kinds of training. One module per task; `task` holds their base class."""
