"""One service in a known state that several tests of a process hurt one after the other."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support.crash_operations import BASE, World
from support.crash_rig import Rig

_TOLD_LINES = 120


class Ground:
    """Makes the known state when it is first asked for, and anew after a test that failed."""

    def __init__(self, make: Callable[[Rig], World]) -> None:
        """`make` brings a service that was just started into the known state."""
        self._make = make
        self._world: World | None = None

    @contextmanager
    def world(self) -> Iterator[World]:
        """The known state; it is given up when what is done with it fails."""
        if self._world is None:
            self._world = self._made()
        try:
            yield self._world
        except BaseException as error:
            error.add_note(self._world.rig.tail(_TOLD_LINES))
            self.close()
            raise

    def close(self) -> None:
        """End the service."""
        world, self._world = self._world, None
        if world is not None:
            world.rig.tear_down()

    def _made(self) -> World:
        rig = Rig()
        try:
            return self._make(rig.start())
        except BaseException:
            rig.tear_down()
            raise


SLOW_FUNCTION = """CREATE FUNCTION slow(int) RETURNS int LANGUAGE sql IMMUTABLE
    AS 'SELECT $1 FROM (SELECT pg_catalog.pg_sleep(0.02)) AS t'"""
"""What a constraint or an index on it takes for each row is long enough to be cut off."""


def make_namespace(rig: Rig, *statements: str) -> World:
    """On a service that was just started, the namespace `base`, in whose database `dev` these were executed."""
    world = World(rig=rig)
    world.add_namespace(BASE)
    with world.login(BASE).connect("dev") as connection:
        for statement in statements:
            connection.execute(statement.encode())
    return world
