"""Training: configuration, training loop, run folders, checkpoints, loading of trained runs."""
