"""Lets `python -m pcapdaemon` run the command `pcapdaemon`."""

from pcapdaemon.cli.main import main

if __name__ == "__main__":
    main()
