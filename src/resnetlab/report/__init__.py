"""Records, tables and figures, and their Markdown, JSON and pictures. Independent of experiments."""
