"""PostgreSQL servers on this machine: the binaries, the OS user, one cluster's life, its roles and its files.

psycopg and the server's programs are used here (and psycopg in `catalog`), nowhere else.
"""
