"""Tables as users have them (CSV, JSON lines, Parquet, Arrow): detect the format and the columns, and write them as a dataset."""
