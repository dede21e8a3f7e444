"""Training and evaluation: recipes, augmentation, metrics, `Trainer` for poses."""
