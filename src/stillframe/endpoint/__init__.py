"""The network front of the databases: a process of its own that relays each workgroup's TCP port to its
server.

PostgreSQL servers listen on Unix sockets only. This process owns the ports, outlives the API, and therefore
lets the API crash or be replaced, and a restore exchange the server behind a port, without a client
noticing more than it must. The service talks to it through `stillframe.endpoint.client.EndpointClient`.
"""
