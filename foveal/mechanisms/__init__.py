"""Attention mechanisms, one paper a file, and their registry."""
