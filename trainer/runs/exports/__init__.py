"""The record of a run in the formats of other tools: SLSA provenance, RO-Crate, CycloneDX."""
