"""Records to pictures. Nothing here knows a model: only Records, images and predictions."""
