"""Records behind URLs."""
