"""What a recording says, as values: every table, chart and page is a function of these."""
