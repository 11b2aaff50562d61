"""Attention mechanisms, one file for each paper, and their registry."""
