"""The one exception that speaks to the user."""


class UserError(Exception):
    """What went wrong, where, and what to do, in one sentence.

    The command line prints it without a traceback and exits with 2. Everything else that is
    raised is a bug in facekd and keeps its traceback.
    """


class BusyError(UserError):
    """Another process or thread is writing what is to be written: the same call may succeed later."""
