"""Locust users against three real nodes; `make loadtest` runs them headless."""
