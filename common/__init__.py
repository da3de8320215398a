"""What every backend shares: data, weights, the interface, training and scoring. It imports no framework."""
