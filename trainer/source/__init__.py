"""The source of a run: captured from a checkout, archived, and laid out again."""
