"""The embedded world: scenes with known truth, and the small models trained on them."""
