"""Every figure that the README and the docs quote, as a command."""
