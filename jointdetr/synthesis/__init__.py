"""Synthetic people with exact 3D labels: a small body model, poses for it, and pictures of it."""
