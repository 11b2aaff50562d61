"""Evaluation of attention: audit, score, localization, deletion and insertion, analyses of the papers."""
