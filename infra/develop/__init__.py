"""Commands for working on the project: the local cloud, and the checks of what ships."""
