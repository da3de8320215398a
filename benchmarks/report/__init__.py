"""A report made from results: its content, section by section,
and how that becomes HTML, Markdown or text."""
