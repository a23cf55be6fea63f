"""Use of trained models: predictions for new files, model packages, and the certificate that compares a package with its run."""
