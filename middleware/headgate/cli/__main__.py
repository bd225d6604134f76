"""`python -m headgate.cli`: the command line where the script is not on the path."""

from headgate.cli import main

if __name__ == "__main__":
    main()
