"""Benchmarks: Stillframe and its peers side by side, in one run, on the same data.

`python -m bench --help` lists what can be chosen. Nothing here is part of the product; nothing in the product
knows of it.
"""
