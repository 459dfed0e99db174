"""Commands for developing the project: the local cloud, and checks of code and templates."""
