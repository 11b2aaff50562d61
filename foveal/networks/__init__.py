"""Networks by name: recipes (backbone + mechanism), complete architectures, and weights of other libraries."""
