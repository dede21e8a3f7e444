"""`python -m jointdetr` is the command `jointdetr`."""

from .cli import main

if __name__ == "__main__":
    main()
