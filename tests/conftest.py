"""For every test: on a busy machine an example of hypothesis may take its time."""

from hypothesis import settings

settings.register_profile("facekd", deadline=None, print_blob=True)
settings.load_profile("facekd")
