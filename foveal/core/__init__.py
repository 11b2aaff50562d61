"""What every room shares: Record and Tap, names and their errors, validation of inputs, the trial pass."""
