"""Films: reading and drawing them, following people through them, smoothing their motion."""
