"""Sites: clusters whose schedulers start runs, and the files of their jobs."""
