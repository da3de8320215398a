"""A recording's results as a page: what it says, section by section, and how that becomes HTML or Markdown."""
