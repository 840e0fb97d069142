"""Configuration parameters: complete, checked, and turned into what PostgreSQL understands."""

import pytest

from stillframe.domain.parameters import PARAMETERS, complete_parameters, server_settings
from stillframe.errors import InvalidRequest

pytestmark = pytest.mark.unit


def test_without_any_given_the_defaults_are_in_force() -> None:
    defaults = {
        key: parameter.default for key, parameter in PARAMETERS.items() if parameter.default is not None
    }
    assert dict(complete_parameters(())) == defaults


def test_a_given_value_replaces_its_default_only() -> None:
    changed = dict(complete_parameters((("max_query_execution_time", "5"),)))
    assert changed == dict(complete_parameters(())) | {"max_query_execution_time": "5"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shared_buffers", "1GB"),
        ("auto_mv", "yes"),
        ("max_query_execution_time", "-1"),
        ("max_query_execution_time", "1; DROP"),
        ("search_path", "a'b"),
        ("search_path", "a\nb"),
        ("datestyle", "ISO'"),
        ("query_group", "\0"),
    ],
)
def test_unknown_keys_and_odd_values_are_refused(key: str, value: str) -> None:
    with pytest.raises(InvalidRequest):
        complete_parameters(((key, value),))


@pytest.mark.parametrize("key", ["require_ssl", "use_fips_ssl"])
def test_tls_cannot_be_demanded_before_it_is_offered(key: str) -> None:
    with pytest.raises(InvalidRequest, match="TLS"):
        complete_parameters(((key, "true"),))


def test_a_key_is_given_once() -> None:
    with pytest.raises(InvalidRequest):
        complete_parameters((("auto_mv", "true"), ("auto_mv", "false")))


def test_the_time_limit_of_a_query_becomes_a_statement_timeout_in_seconds() -> None:
    assert (
        server_settings(complete_parameters((("max_query_execution_time", "7"),)))["statement_timeout"]
        == "7s"
    )


def test_names_of_the_search_path_are_quoted_one_by_one() -> None:
    settings = server_settings(complete_parameters((("search_path", '$user, "Sales", public'),)))
    assert settings["search_path"] == '"$user", "Sales", "public"'
