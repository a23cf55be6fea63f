"""What a neighbor on a shared store or cache can try: the threat model of docs/security.md, a test for each sentence."""
