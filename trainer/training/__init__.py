"""Training: the home of torch and Lightning."""
