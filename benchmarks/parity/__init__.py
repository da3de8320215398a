"""The parity ladder: proof that every backend computes what the float64 referee computes."""
