"""Measuring: the plan, the engine that takes turns,
what runs in a backend's process, and the measurement."""
