"""Training and its runs: configuration, loop, run folders, checkpoints, loading a run. Names no attention."""
