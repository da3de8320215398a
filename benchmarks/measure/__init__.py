"""Measuring: what is to be measured, in which turns, what runs in a backend's process, and the recording of it."""
