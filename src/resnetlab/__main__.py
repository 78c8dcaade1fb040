"""`python -m resnetlab`, as torchrun starts it."""

from resnetlab.cli import main

if __name__ == "__main__":
    main()
