"""Template tags: an execution in a page."""
