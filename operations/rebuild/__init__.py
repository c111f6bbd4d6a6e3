"""A table built again from its topic, and swapped in."""
