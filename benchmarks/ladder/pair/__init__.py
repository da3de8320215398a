"""Which weights and layers of two records belong together."""
