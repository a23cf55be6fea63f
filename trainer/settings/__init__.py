"""Settings: fields, sources, values and their texts, the ledger of who read what."""
