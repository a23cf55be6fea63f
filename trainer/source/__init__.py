"""The source of a run: capture it from a checkout, archive it, and lay it out for a rerun."""
