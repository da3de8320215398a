"""Parity checks, measuring and reports: what compares the backends, which it knows by name only."""
