"""The variants: Keras as the official example has it, and under each of its engines."""
