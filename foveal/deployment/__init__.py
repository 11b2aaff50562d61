"""Deployment: faster copies for inference that are checked against the model, and files for other runtimes."""
