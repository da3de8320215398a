"""What every backend shares: data, weights, the interface, training and scoring. NumPy, never a framework."""
