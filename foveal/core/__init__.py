"""Shared by all rooms: Record and Tap, names and their errors, validation of inputs, the trial pass."""
