"""Does the attention work? Audit, score, localization, deletion and insertion, the analyses of the papers."""
