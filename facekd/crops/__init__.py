"""Crops: where they lie, who is on them, and the views in which training sees them."""
