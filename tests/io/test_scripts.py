"""Scripts as values: a checked header, checked counts, and the bytes that go out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_kit._io.scripts import Keys, Names, Packed, Script, pack
from sync_kit.ratelimit import limiter
from tests.io.tools import ECHO, Caller, script

HEADER = "-- say: a word\n-- KEYS: {keys}\n-- ARGV: {args}\n-- returns: ok\n\nreturn 1\n"


def say(keys: str = "key", args: str = "") -> Script:
    return Script("say", HEADER.format(keys=keys, args=args))


@pytest.mark.parametrize(
    "source",
    [
        "return 1\n",
        "-- say: a word\n-- KEYS: key\n-- returns: ok\nreturn 1\n",
        "-- say: a word\n-- ARGV: a\n-- KEYS: key\n-- returns: ok\n",
        "-- say: a word\n-- KEYS: key\n-- ARGV: a\n",
        "-- tell: another word\n-- KEYS: key\n-- ARGV: a\n-- returns: ok\n",
        "\n-- say: not at the top\n-- KEYS: key\n-- ARGV: a\n-- returns: ok\n",
    ],
)
def test_a_script_without_a_proper_header_is_refused(source):
    with pytest.raises(ValueError, match=r"say\.lua has no proper header"):
        Script("say", source)


def test_the_header_may_explain_over_several_lines():
    made = Script("say", "-- say: a word\n--  and why\n--  it is said\n-- KEYS: key\n-- ARGV: a b\n-- returns: ok\n")
    assert (made.keys.fixed, made.args.fixed, made.args.group) == (("key",), ("a", "b"), ())


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        ("", [0]),
        ("a", [1]),
        ("a b", [2]),
        ("a; id ...", [1, 2, 3, 4, 5]),
        ("a; id gen ...", [1, 3, 5]),
        ("; id gen ...", [0, 2, 4]),
    ],
)
def test_counts_that_fit_a_header_line(line, fits):
    assert [count for count in range(6) if Names(line).fit(count)] == fits


@pytest.mark.parametrize(("keys", "args"), [(0, 1), (2, 1), (1, 0), (1, 2), (1, 4)])
def test_wrong_counts_are_refused_with_both_numbers(keys, args):
    made = say(args="now; id gen ...")
    with pytest.raises(ValueError, match=f"say.lua was called with {keys} keys and {args} arguments"):
        made.call(["k"] * keys, ["a"] * args)


def test_the_bytes_of_a_call():
    made = say(args="text number")
    sha = made.sha.encode()
    head = b"*6\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n$1\r\n1\r\n" % sha
    assert made.call(["é"], [b"a\rb", -7]) == head + b"$2\r\n\xc3\xa9\r\n$3\r\na\rb\r\n$2\r\n-7\r\n"


@given(
    st.lists(
        st.one_of(st.binary(max_size=20), st.integers(), st.text(st.characters(codec="utf-8"), max_size=20)), min_size=1
    )
)
def test_a_packed_command_can_be_read_back(parts):
    packed, read = pack(*parts), []
    head, _, rest = packed.partition(b"\r\n")
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        end = int(size[1:])
        read.append(rest[:end])
        assert rest[end : end + 2] == b"\r\n"
        rest = rest[end + 2 :]
    assert head == b"*%d" % len(parts)
    assert read == [part if isinstance(part, bytes) else str(part).encode() for part in parts]


def test_what_is_encoded_once_makes_the_same_bytes():
    made = Script("pair", "-- pair: of the tests\n-- KEYS: one two\n-- ARGV: a b c\n-- returns: ok\n\nreturn {'ok'}\n")
    keys, args = ("{t}:1", "{t}:ü"), ("first", 7, b"\xff")
    expected = made.call(keys, args)
    assert made.call(Keys(keys), Packed(args)) == made.call(keys, Packed(args[1:]).after("first")) == expected
    assert made.whole(Keys(keys), Packed(args[1:]).after("first")) == made.whole(keys, args)
    assert Keys(keys) == keys


def test_a_script_is_loaded_from_the_folder_of_its_module():
    made = Script.load(limiter.__name__, "take")
    assert (made.name, made.keys.fixed) == ("take", ("counter",))
    assert repr(made) == "<Script take>"


def test_the_sha_is_the_one_the_server_computes(server):
    assert server.client().script_load(ECHO.source) == ECHO.sha


VARIADIC = script("gather", "first; id gen ...", "return {'ok', #ARGV, ARGV[1], ARGV[#ARGV]}")


@pytest.mark.anyio
async def test_a_group_may_repeat_any_number_of_times(kit, face):
    """Also more often than there are shapes whose beginning is kept."""
    caller = face(Caller(kit))
    for groups in [0, 1, 2, *range(3, 80)]:
        args = ["first", *(str(n) for n in range(2 * groups))]
        assert await caller.call(VARIADIC, *args) == [b"ok", len(args), b"first", args[-1].encode()]


@pytest.mark.anyio
async def test_arguments_are_opaque_bytes(kit, face):
    every = bytes(range(256)) + b"\r\n$3\r\n"
    assert await face(Caller(kit)).call(ECHO, every) == [b"ok", every]
    assert await face(Caller(kit)).call(ECHO, "é\0😀") == [b"ok", "é\0😀".encode()]
    assert await face(Caller(kit)).call(ECHO, -(2**63)) == [b"ok", b"-9223372036854775808"]
