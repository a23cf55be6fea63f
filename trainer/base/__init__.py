"""Shared basics: errors, digests, documents, safe paths and files, child processes, messages."""
