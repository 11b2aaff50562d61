"""HTML reports of runs and comparisons: templates, charts, tables, the attention page."""
