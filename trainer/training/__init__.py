"""Training with torch and Lightning."""
