"""`python -m foveal` is the command."""

from foveal.cli.main import command

if __name__ == "__main__":
    command()
