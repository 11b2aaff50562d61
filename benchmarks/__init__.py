"""Benchmarks: time and memory of attention, compared with other libraries and with no attention, in one process."""
