"""Pose datasets: the row's schema, loading and checking, converters."""
