"""Measuring: the plan, the schedule of turns, the scenarios that run in a backend's process, and the recording."""
