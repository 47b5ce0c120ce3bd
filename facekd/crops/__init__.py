"""Crops: where they lie, who is on them, and the views in which training sees them."""

from typing import Literal

Augment = Literal["plain", "occluded"]  # kinds of views, see views.view_batch; here because naming them loads nothing
