"""Functions of tensors: coordinates and grids, transforms, sampling, pooling, and the switch for the fast forms."""
