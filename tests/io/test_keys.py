"""Keys: no two tuples meet, one hash tag a group, whatever the parts are."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from sync_kit import ConfigurationError
from sync_kit._io.keys import MAX_PART, KeyGroup, KeyPattern, encode_part

ODD = [
    "{",
    "}",
    "{}",
    "a:b",
    ":",
    "%",
    "%3A",
    "~",
    "~" + "0" * 32,
    "\0",
    "\ud800",
    "\udfff",
    " ",
    "\n",
    "é",
    "é",
    "😀",
    "-1",
    "0",
]
text = st.one_of(st.sampled_from(ODD), st.text(st.characters(), min_size=1, max_size=8))
part = st.one_of(text, st.text(st.characters(), min_size=MAX_PART - 2, max_size=MAX_PART + 3), st.integers())
parts = st.lists(part, max_size=3).map(tuple)
some = st.lists(part, min_size=1, max_size=3).map(tuple)


def plain(given: tuple[str | int, ...]) -> tuple[str, ...]:
    """Numbers are their decimal text: `1` and `"1"` are the same part."""
    return tuple(map(str, given))


def tag_of(key: str) -> bytes:
    """What Redis hashes: between the first `{` and the first `}` after it."""
    _, _, rest = key.encode().partition(b"{")
    return rest.partition(b"}")[0]


@given(part, some, parts, part, some, parts)
@example("a", ("b",), ("c",), "a", ("b", "c"), ())
@example("a", ("b:c",), (), "a", ("b", "c"), ())
@example("a", ("\ud800",), (), "a", ("%ED%A0%80",), ())
@example("a", ("x" * (MAX_PART + 1),), (), "a", (encode_part("x" * (MAX_PART + 1)),), ())
def test_no_two_tuples_make_the_same_key(namespace, tag, rest, namespace2, tag2, rest2):
    same = (str(namespace), plain(tag), plain(rest)) == (str(namespace2), plain(tag2), plain(rest2))
    keys = KeyGroup(namespace, "rl", *tag).key(*rest), KeyGroup(namespace2, "rl", *tag2).key(*rest2)
    assert (keys[0] == keys[1]) is same


@given(part, some, parts, parts)
def test_all_keys_of_a_group_are_in_one_slot(namespace, tag, rest, other):
    group = KeyGroup(namespace, "q", *tag)
    first, second = group.key(*rest).encode(), group.key(*other).encode()
    assert key_slot(first) == key_slot(second)


@given(part, some, parts)
def test_the_hash_tag_is_exactly_the_tag(namespace, tag, rest):
    key = KeyGroup(namespace, "mx", *tag).key(*rest)
    assert tag_of(key) == ":".join(map(encode_part, tag)).encode()
    assert (key.count("{"), key.count("}")) == (1, 1)


@given(part, part, part, parts)
def test_a_pattern_makes_the_key_that_a_group_makes_but_for_colons(namespace, name, free, rest):
    made = KeyPattern(namespace, "rl", name, *rest).key(free)
    tag = KeyGroup(namespace, "rl", name).head[:-1]
    assert made == ":".join([f"{tag}:{encode_part(free, last=True)}}}", *map(encode_part, rest)])
    assert encode_part(free, last=True).replace(":", "%3A") == encode_part(free)


@given(part, part, part, part)
def test_no_two_names_and_keys_make_one_key_of_a_pattern(name, free, name2, free2):
    keys = KeyPattern("ns", "rl", name, "w").key(free), KeyPattern("ns", "rl", name2, "w").key(free2)
    assert (keys[0] == keys[1]) is ((str(name), str(free)) == (str(name2), str(free2)))


@given(part)
def test_a_part_is_short_printable_and_one_word(given_part):
    made = encode_part(given_part)
    assert made.encode("utf-8")
    assert len(made) <= 12 * MAX_PART
    assert not [c for c in made if c in ":{}" or c <= " "]


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=MAX_PART))
def test_plain_text_stays_readable(name):
    assert encode_part(name) == name


def test_a_key_can_be_read():
    assert KeyGroup("shop", "mx", "api", "user:1").key("fence") == "shop:mx:{api:user%3A1}:fence"
    assert KeyPattern("shop", "rl", "my:api", "w600").key("user:1") == "shop:rl:{my%3Aapi:user:1}:w600"


def test_a_part_of_a_megabyte_makes_a_short_key():
    long, longer = "x" * 2**20, "x" * 2**20 + "y"
    assert encode_part(long) != encode_part(longer)
    assert len(KeyGroup("ns", "rl", long).key(longer)) < 100


@pytest.mark.parametrize("bad", ["", None, b"bytes", 1.5, True, ("a",)])
def test_what_is_no_part_is_refused(bad):
    with pytest.raises(ConfigurationError, match="a part of a key"):
        encode_part(bad)
    with pytest.raises(ConfigurationError, match="a part of a key"):
        KeyGroup("ns", "rl", bad)
    with pytest.raises(ConfigurationError, match="a part of a key"):
        KeyGroup("ns", "rl", "tag").key(bad)


def test_redis_takes_them_as_they_are(server):
    client = server.client()
    group = KeyGroup("ns", "rl", uuid.uuid4().hex)
    made = [group.key(*rest) for rest in [("\0",), ("\ud800",), ("é", "😀"), ("x" * 2**20,), ("a b", "{}")]]
    for key in made:
        client.set(key, "x", ex=60)
    assert sorted(client.keys()) == sorted(key.encode() for key in made)
