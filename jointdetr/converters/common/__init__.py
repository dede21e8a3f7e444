"""What several converters need, and what becomes of what they yield."""
