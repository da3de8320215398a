"""The parity ladder, which proves that every backend computes what the float64 referee computes."""
