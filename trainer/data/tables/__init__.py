"""Users' tables (CSV, JSON lines, Parquet, Arrow): detect the format and the types of the columns, and write a dataset."""
