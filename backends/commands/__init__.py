"""What the commands do that use a model."""
