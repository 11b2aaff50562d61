"""Pages and pictures of whole runs and comparisons: templates, charts, tables, the look page."""
