"""Settings: fields, sources, values, text forms, and the ledger of which code read each setting."""
