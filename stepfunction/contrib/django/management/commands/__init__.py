"""Commands of ``manage.py``, which are those of the command line."""
