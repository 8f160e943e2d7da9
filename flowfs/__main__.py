"""``python -m flowfs`` is the command ``flowfs``."""

from flowfs.cli import main

if __name__ == "__main__":
    main()
