"""Inspection of a model's attention: recording, replacing, Grad-CAM, rollout, drawing."""
