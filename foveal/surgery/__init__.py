"""Attach mechanisms to a model and detach them; tables of known blocks; fused training forms."""
