"""Converters: one file for each data set, which becomes rows of this package's schema."""
