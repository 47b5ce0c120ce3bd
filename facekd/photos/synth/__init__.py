"""Photos of people who do not exist, drawn by numpy and OpenCV from seeds alone."""

from facekd.photos.synth.people import DrawnPerson, person
from facekd.photos.synth.render import Rendered, jpeg, render

__all__ = ["DrawnPerson", "Rendered", "jpeg", "person", "render"]
