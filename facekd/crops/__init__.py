"""Crops: where they lie, who is on them, and the views in which training sees them."""

from typing import Literal

# Kinds of views, see views.view_batch; here because naming them loads nothing.
Augment = Literal["plain", "occluded", "flip"]
