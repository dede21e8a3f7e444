"""Rows of pose datasets: their schema, checks, loading, mixing, other skeletons, examples and predictions."""
