"""Resource names with placeholders."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sync_kit import ConfigurationError
from sync_kit.mutex import KeyTemplate

values = st.text(alphabet="ab:%{}~<> \0\u00fc\ud800", min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("text", "values", "resource"),
    [
        ("report:<id>", {"id": 7}, "report:7"),
        ("report:<id>", {"id": "seven", "other": 1}, "report:seven"),
        ("<a>:<b>:<a>", {"a": 1, "b": 2}, "1:2:1"),
        ("nightly", {}, "nightly"),
        ("report:<id>", {"id": "a:b"}, "report:a%3Ab"),
    ],
)
def test_placeholders_are_filled_in(text, values, resource):
    assert KeyTemplate(text).fill(values) == resource


@pytest.mark.parametrize("text", ["<id:int>", "<>", "< id>", "<report id>", "<1>", "<a.b>", "<a-b>"])
def test_a_placeholder_is_a_plain_name(text):
    with pytest.raises(ConfigurationError, match="is not a placeholder: write a plain name"):
        KeyTemplate(text)


@pytest.mark.parametrize("text", ["<id", "id>", "<<id>>", "<id>>", "a<b", "><"])
def test_a_bracket_needs_its_partner(text):
    with pytest.raises(ConfigurationError, match="bracket without its partner"):
        KeyTemplate(text)


@pytest.mark.parametrize("text", ["report:{id}", "report:{id:int}", "<year>:{id}"])
def test_a_placeholder_of_another_library_is_not_taken_for_the_name_itself(text):
    with pytest.raises(ConfigurationError, match="would not be filled in: write <id>"):
        KeyTemplate(text)


@pytest.mark.parametrize("text", ["", " ", None, 7])
def test_an_empty_template_is_refused(text):
    with pytest.raises(ConfigurationError, match="a resource must be"):
        KeyTemplate(text)


def test_an_unknown_name_is_refused_with_the_known_ones():
    template = KeyTemplate("report:<id>")
    template.require(["id", "other"])
    with pytest.raises(ConfigurationError, match="<id> in 'report:<id>' is not known here: use one of day, year"):
        template.require(["year", "day"])
    with pytest.raises(ConfigurationError, match="did you mean <ide>?"):
        template.require(["day", "ide"])
    with pytest.raises(ConfigurationError, match="use one of none"):
        template.fill({})


def test_an_empty_value_is_refused():
    with pytest.raises(ConfigurationError, match="empty"):
        KeyTemplate("report:<id>").fill({"id": ""})


@given(first=st.tuples(values, values), second=st.tuples(values, values))
@example(first=("a:b", "c"), second=("a", "b:c"))
@example(first=("a", "%3A"), second=("a", ":"))
@example(first=("a" * 161, "b"), second=("a" * 162, "b"))
def test_no_value_can_pose_as_two_parts(first, second):
    template = KeyTemplate("<a>:<b>")
    filled = [template.fill({"a": a, "b": b}) for a, b in (first, second)]
    assert (filled[0] == filled[1]) == (first == second)
