"""What every subject needs: errors, digests, documents, safe paths and files, child processes, messages."""
