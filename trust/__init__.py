"""The suites of docs/trust.md: faults run against the real thing, counted, resumable."""
