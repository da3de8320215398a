"""What each framework tells of itself: its profiler's kernels, the speed of its matrix product, its settings."""
