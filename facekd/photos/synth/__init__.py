"""Photos of people who do not exist, drawn by numpy and OpenCV from seeds alone."""

from facekd.photos.synth.people import Person, person
from facekd.photos.synth.render import Rendered, jpeg, render

__all__ = ["Person", "Rendered", "jpeg", "person", "render"]
