"""What is written for PostgreSQL to read cannot say anything else than what was meant."""

from pathlib import Path

import pytest

from stillframe.errors import ConfigurationInvalid
from stillframe.postgres.settings import (
    MEGABYTE,
    ServerSettings,
    quote,
    render_hba,
    render_ident,
    render_settings,
    settings_for_major,
)

pytestmark = pytest.mark.unit


def rendered(settings: ServerSettings) -> dict[str, str]:
    text = render_settings(
        settings, socket_directory=Path("/run/s"), socket_port=5432, log_directory=Path("/var/log/s")
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return dict(line.split(" = ", 1) for line in lines)


def test_sizes_are_written_with_their_units() -> None:
    found = rendered(ServerSettings(shared_buffers=3 * MEGABYTE, max_wal_size=512 * MEGABYTE))
    assert found["shared_buffers"] == "'3072kB'"
    assert found["max_wal_size"] == "'512MB'"


def test_the_service_keeps_connections_for_itself() -> None:
    found = rendered(ServerSettings(max_connections=50))
    assert (found["max_connections"], found["superuser_reserved_connections"]) == ("'58'", "'8'")


def test_nothing_listens_on_the_network_and_users_cannot_change_the_server() -> None:
    found = rendered(ServerSettings(users={"search_path": "a, b"}))
    assert (found["listen_addresses"], found["allow_alter_system"]) == ("''", "'off'")
    assert found["search_path"] == "'a, b'"


def test_extra_settings_win() -> None:
    assert rendered(ServerSettings(extra={"io_method": "sync"}))["io_method"] == "'sync'"


def test_a_value_cannot_break_out_of_its_line() -> None:
    assert quote("it's \\") == "'it''s \\\\'"
    for value in ("a\nb", "a\rb", "a\0b"):
        with pytest.raises(ConfigurationInvalid):
            quote(value)


@pytest.mark.parametrize("name", ["", "a b", "x;y", "a.", "1st", "nämé"])
def test_a_name_has_to_be_one(name: str) -> None:
    with pytest.raises(ConfigurationInvalid):
        rendered(ServerSettings(users={name: "1"}))


def test_dotted_names_are_fine() -> None:
    assert rendered(ServerSettings(users={"stillframe.mode": "x"}))["stillframe.mode"] == "'x'"


def test_seventeen_is_not_told_what_it_does_not_know() -> None:
    text = "io_method = 'worker'\nfsync = 'on'\n"
    assert settings_for_major(text, major=18) == text
    assert settings_for_major(text, major=17) == "fsync = 'on'\n"


def test_the_service_role_comes_in_by_identity_only_and_before_everybody_else() -> None:
    lines = [line.split() for line in render_hba().splitlines() if not line.startswith("#")]
    assert [line[0] for line in lines] == ["local"] * 4
    assert lines[0][2:4] == ['"stillframe"', "peer"]
    assert lines[-1][1:] == ["all", "all", "scram-sha-256"]
    assert ["replication", "all", "reject"] in [line[1:] for line in lines]


def test_only_one_os_user_is_the_service() -> None:
    assert '"root"  "stillframe"' in render_ident(service_user="root")
    for name in ("", "/regex", 'a"b', "a\nb", "+group", "a,b"):
        with pytest.raises(ConfigurationInvalid):
            render_ident(service_user=name)
