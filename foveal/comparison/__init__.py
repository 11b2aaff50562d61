"""Is attention worth its cost? Plans, controls, jobs, verdicts."""
