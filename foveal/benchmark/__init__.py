"""How fast attention is, beside others' and beside none, all in one process."""
