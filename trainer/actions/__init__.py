"""Actions: one verb each; what they touch comes in as an argument."""
