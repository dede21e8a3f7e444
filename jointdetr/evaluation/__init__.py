"""Evaluation: metrics, the protocols of the papers, and reports."""
