"""A model for inference: its copy made faster and checked, or written to a file."""
