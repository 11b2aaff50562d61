"""A model for inference: a faster copy that is checked, or a file for another runtime."""
