"""Trained models in use: answers for new files, model packages, and the certificate that a package answers as the run measured."""
