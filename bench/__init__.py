"""Measurements of taskquorum on real processes; `make bench` runs them."""
