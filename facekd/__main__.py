"""``python -m facekd``, for torchrun and friends."""

from facekd.cli import main

if __name__ == "__main__":
    main()
