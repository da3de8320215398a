"""From a recording to its results as Python values. Every table, chart and page is made from these values alone."""
