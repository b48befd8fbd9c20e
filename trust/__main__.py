"""`python -m trust run NAME…` runs suites, `python -m trust report` writes what they showed into docs/."""

from trust.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
