"""No two readers may understand a policy file differently, and no file may cost more than it weighs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tproxy.policy.findings import Finding
from tproxy.policy.nodes import MAX_BYTES, MAX_DEPTH, Node, SourceFile, read


def parsed(content: bytes) -> tuple[list[Node], list[Finding]]:
    """Read one file named f."""
    findings: list[Finding] = []
    return list(read(SourceFile("f", content), findings)), findings


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("true", True, id="true"),
        pytest.param("false", False, id="false"),
        pytest.param("8080", 8080, id="number"),
        pytest.param("-1", -1, id="negative"),
        pytest.param("1.5", 1.5, id="fraction"),
        pytest.param("null", None, id="null"),
        pytest.param("~", None, id="tilde"),
        pytest.param("", None, id="nothing"),
        pytest.param("no", "no", id="Norway"),
        pytest.param("on", "on", id="on"),
        pytest.param("010", "010", id="octal or ten"),
        pytest.param("0x10", "0x10", id="hexadecimal"),
        pytest.param("1_000", "1_000", id="underscores"),
        pytest.param("1:30", "1:30", id="base sixty"),
        pytest.param("1e3", "1e3", id="exponent"),
        pytest.param("2001-01-01", "2001-01-01", id="date"),
        pytest.param("9" * 5000, "9" * 5000, id="a number that takes long to read"),
        pytest.param("'8080'", "8080", id="quoted"),
        pytest.param('"true"', "true", id="double quoted"),
        pytest.param("|\n  a\n  b", "a\nb\n", id="block"),
        pytest.param("[1, {a: b}]", [1, {"a": "b"}], id="nested"),
    ],
)
def test_values_are_what_every_reader_takes_them_for_or_text(text: str, value: object) -> None:
    (node,), findings = parsed(f"v: {text}\n".encode())

    assert findings == []
    assert node.plain() == {"v": value}


def test_values_know_their_places() -> None:
    (node,), _ = parsed(b"# c\na:\n  b: [x, {c: 1}]\n")

    places = {
        (): (2, 1),
        ("a",): (2, 1),
        ("a", "b"): (3, 3),
        ("a", "b", 1): (3, 10),
        ("a", "b", 1, "c"): (3, 11),
        ("a", "missing"): (3, 3),
        ("a", "b", "no list"): (3, 6),
    }
    found = {path: node.nearest(path) for path in places}
    assert {path: (mark.line, mark.column) for path, mark in found.items()} == places


def test_a_file_holds_several_documents() -> None:
    nodes, _ = parsed(b"a: 1\n---\n---\nb: 2\r\n")

    assert [node.plain() for node in nodes] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        pytest.param(
            b"a: 1\nb: \xff\n", "f:2:4 TPX0101 error $: not UTF-8, save it as UTF-8", id="encoding"
        ),
        pytest.param(
            "a: 1".encode("utf-16"),
            "f:1:1 TPX0101 error $: not UTF-8, save it as UTF-8",
            id="utf-16",
        ),
        pytest.param(
            b"\xef\xbb\xbfa: 1",
            "f:1:1 TPX0101 error $: starts with a byte-order mark, save it without one",
            id="byte-order mark",
        ),
        pytest.param(
            b"a: 1\nb: x\x1by",
            "f:2:5 TPX0101 error $: holds the control character '\\x1b'",
            id="control character",
        ),
        pytest.param(
            b"#" * (MAX_BYTES + 1),
            "f:1:1 TPX0101 error $: larger than 1048576 bytes, split it into several files",
            id="too large",
        ),
        pytest.param(
            b"a:\n  \tb: 1",
            "f:2:3 TPX0105 error $: a tab in the indentation, use spaces",
            id="tab",
        ),
        pytest.param(
            b"a: b: c",
            "f:1:5 TPX0102 error $: mapping values are not allowed in this context",
            id="no yaml",
        ),
        pytest.param(
            b"a: 1\nb:\n  a: 2\n  a: 3",
            "f:4:3 TPX0104 error $.b.a: stands already in line 3, keep one of them",
            id="duplicate key",
        ),
        pytest.param(
            b"a: &x 1",
            "f:1:4 TPX0105 error $.a: anchors and aliases are refused, write it out",
            id="anchor",
        ),
        pytest.param(
            b"&x a: 1",
            "f:1:1 TPX0105 error $: anchors and aliases are refused, write it out",
            id="anchored key",
        ),
        pytest.param(
            b"a: *x",
            "f:1:4 TPX0105 error $.a: anchors and aliases are refused, write it out",
            id="alias",
        ),
        pytest.param(
            b"a: !!python/name:os.system ''",
            "f:1:4 TPX0105 error $.a: the tag 'tag:yaml.org,2002:python/name:os.system' is refused, leave it out",
            id="tag",
        ),
        pytest.param(
            b"a: !!set {}",
            "f:1:4 TPX0105 error $.a: the tag 'tag:yaml.org,2002:set' is refused, leave it out",
            id="tagged mapping",
        ),
        pytest.param(
            b"? [a]\n: 1", "f:1:3 TPX0105 error $: a key must be text", id="a list for a key"
        ),
        pytest.param(
            b"? " * 5000 + b"a",
            "f:1:3 TPX0105 error $: a key must be text",
            id="keys in keys in keys",
        ),
        pytest.param(
            b"[" * 500,
            f"f:1:{MAX_DEPTH + 2} TPX0105 error $: nested deeper than 32 levels",
            id="too deep",
        ),
    ],
)
def test_what_could_be_understood_differently_is_refused(content: bytes, finding: str) -> None:
    assert [str(each) for each in parsed(content)[1]] == [finding]


def test_an_alias_bomb_is_refused_before_it_unfolds() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 20))
    nodes, findings = parsed(f"l0: &l0 x\n{levels}\n".encode())

    assert findings
    assert len(str(nodes[0].plain())) < 10000


def test_findings_stay_on_one_bounded_line_whatever_they_quote() -> None:
    _, (finding,) = parsed(b'"a\\n\\e[31m' + b"x" * 900 + b'": &y 1')

    assert str(finding).isprintable()
    assert "a\\n\\x1b[31m" in str(finding)
    assert len(str(finding)) < 700


@pytest.mark.slow
@given(st.text(alphabet="ab:-?*&![]{},#|>'\"%@` \n\t0~\x00é", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    nodes, findings = parsed(text.encode())

    assert all(node.plain() is not None for node in nodes)
    assert all(str(finding).startswith("f:") for finding in findings)
