"""`python -m stillframe` is the command `stillframe`."""

from stillframe.cli import main

if __name__ == "__main__":
    main()
