"""`python -m mcomp`."""

from mcomp.cli import main

if __name__ == "__main__":
    main()
