"""Finding attention in any model by a trial pass: operations, the rules on them, the places and their forms."""
