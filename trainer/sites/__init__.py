"""Sites: clusters whose schedulers start runs, and the texts of their jobs."""
