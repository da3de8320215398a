"""A record of a model in canonical terms."""
