"""The variants: what is faster by a trick, or computes in another precision, or as the official example does."""
