"""Benchmarks: how fast attention is, beside other libraries and beside none, all in one process."""
