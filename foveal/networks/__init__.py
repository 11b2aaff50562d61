"""Networks by name: recipes of backbone + mechanism, the few networks that are not one, weights of other libraries."""
