"""A small Django project, and the one app in it, which the tests run."""
