"""Training: recipes, augmentation, streams, the loop on Accelerate, and what a run tells of itself."""
