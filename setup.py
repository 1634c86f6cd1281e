from setuptools import setup

# Every fact is in setup.cfg.
setup()
