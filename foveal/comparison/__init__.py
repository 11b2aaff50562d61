"""Comparison of attention mechanisms at measured cost: plans, controls, jobs, statistical verdicts."""
