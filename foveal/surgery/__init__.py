"""Attach mechanisms to a model and detach them; known blocks; fused training forms."""
