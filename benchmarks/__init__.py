"""The comparison of the backends, which it knows by name only."""
