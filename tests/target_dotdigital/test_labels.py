"""Labels: laws that hold for any names."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.running import Pipeline, singer
from target_dotdigital.settings import LabelSettings
from target_dotdigital.sync.labels import Labels, ambiguous_names
from target_dotdigital.text import is_blank

NAMES = st.lists(st.text(min_size=1, max_size=30).filter(lambda name: name.strip() == name and ";" not in name), max_size=12)
SETTINGS = st.builds(
    LabelSettings,
    field=st.just("F"),
    enclosed=st.booleans(),
    length=st.integers(20, 120),
    priority=NAMES.map(tuple),
)


@given(SETTINGS, NAMES)
def test_every_name_is_whole_somewhere_or_dropped(settings: LabelSettings, names: list[str]) -> None:
    labels = Labels(settings)
    labelled = labels.of(names)
    found = [name for name in labelled.value.split(";") if name]
    assert sorted([*found, *labelled.dropped]) == sorted(set(names))
    assert len(labelled.value) <= settings.length


@given(SETTINGS, NAMES, st.randoms())
def test_the_order_of_names_does_not_matter(settings: LabelSettings, names: list[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis's random
    assert Labels(settings).of(names) == Labels(settings).of(shuffled)


@pytest.mark.parametrize(
    ("settings", "names", "value", "dropped"),
    [
        ({}, ["VIP", "Affinity: Nike"], "Affinity: Nike;VIP", ()),
        ({}, [], "", ()),
        ({}, [" "], "", ()),
        ({"delimiter": " | "}, ["b", "a"], "a | b", ()),
        ({"enclosed": True}, ["VIP"], ";VIP;", ()),
        ({"labels": (("VIP", "Very"), ("Lapsed", "Very"))}, ["VIP", "Lapsed"], "Very", ()),
        ({"length": 20}, ["a" * 9, "b" * 9, "c" * 9], "a" * 9 + ";" + "b" * 9, ("c" * 9,)),
        ({"length": 20, "priority": ("c" * 9,)}, ["a" * 9, "b" * 9, "c" * 9], "c" * 9 + ";" + "a" * 9, ("b" * 9,)),
        ({"length": 20}, ["a" * 21], "", ("a" * 21,)),
    ],
)
def test_values(settings: dict[str, object], names: list[str], value: str, dropped: tuple[str, ...]) -> None:
    labelled = Labels(LabelSettings(field="F", **settings)).of(names)  # type: ignore[arg-type]  # a table of cases
    assert (labelled.value, labelled.dropped) == (value, dropped)


# what a record may hold as its list, and the names in it; None if they cannot be read
READ: list[tuple[list[str] | str, list[str] | None]] = [
    (["A", "B"], ["A", "B"]),
    ([], []),
    # a blank name is none
    (["A", "", " ", "\u200b"], ["A"]),
    ([""], None),
    # delimited text
    ("A;B", ["A", "B"]),
    (" A ; B;;", ["A", "B"]),
    ("", []),
    (" \n", []),
    (";;", []),
    ("A, B", ["A, B"]),
    ("VIP [new]", ["VIP [new]"]),
    ("(A)", ["(A)"]),
    ('"Big" spenders', ['"Big" spenders']),
    # JSON
    ('["A","B"]', ["A", "B"]),
    (' [ "A;B" , "\\u00e9" ]\n', ["A;B", "é"]),
    ("[]", []),
    ("\ufeff[]", []),
    ('"[\\"A\\"]"', ["A"]),
    ('["A",""]', ["A"]),
    *(
        (text, None)
        for text in ('[""]', '["A"', '["A",]', "[A, B]", "['A', 'B']", "[1]", '["A", null]', '[["A"]]', '[{"name": "A"}]')
    ),
    *((text, None) for text in ("null", "NULL", " None ", '"null"', '{"a": 1}', "[VIP] A;B", "('A', 'B')", '"[1]"', "'[\"A\"]'")),
    # PostgreSQL
    ("{A,B}", ["A", "B"]),
    ("{}", []),
    ('{"A, B",C d,"e\\"f\\\\"}', ["A, B", "C d", 'e"f\\']),
    ('{"NULL",A}', ["NULL", "A"]),
    *((text, None) for text in ("{A,NULL}", "{null}", "{A", "{A,}", "{{A},{B}}", '{""}', "{'A','B'}", "[0:1]={A,B}", "{a: 1}}")),
    # a list in a name
    *((names, None) for names in (['["A","B"]'], ["{A,B}"], 'A;["B"]')),
    (["[VIP]", "{VIP}", "null"], ["[VIP]", "{VIP}", "null"]),
]


@pytest.mark.parametrize(("value", "names"), READ)
def test_lists_and_texts_are_read_or_rejected(value: list[str] | str, names: list[str] | None) -> None:
    assert Labels(LabelSettings("F")).read(value) == names


@given(st.lists(st.text(min_size=1).filter(lambda name: not is_blank(name) and name[0] not in "[{"), min_size=1))
def test_names_survive_being_written_as_a_json_text(names: list[str]) -> None:
    labels = Labels(LabelSettings("F"))
    assert labels.read(json.dumps(names)) == labels.read(json.dumps(json.dumps(names))) == labels.read(names) == names


@pytest.mark.parametrize("opening", ['{"', "{a ", "{a,", '{"\\', "[", "{ ", '["a",'])
def test_a_long_text_is_read_in_no_time(opening: str) -> None:
    """Time that grows with the square of the length would be minutes."""
    labels = Labels(LabelSettings("F"))
    assert labels.read(opening * 50_000) is None


def test_names_that_a_rule_may_confuse_are_told() -> None:
    assert ambiguous_names(["VIP", "vip lapsed", "a;b"], ";") == [
        "'VIP' is part of 'vip lapsed'",
        "'a;b' contains the delimiter ';'",
    ]


@pytest.mark.parametrize(
    ("settings", "words", "value"),
    [
        ({"segment_priority": ["vip"]}, ["'vip' in segment_priority", "'VIP'"], "Sale [A];VIP"),
        ({"segment_priority": ["VIP", "Sale [B]"]}, ["'Sale [B]' in segment_priority", "'Sale [A]'"], "VIP;Sale [A]"),
        ({"segment_labels": {"V I P": "Gold"}}, ["'V I P' in segment_labels", "'VIP'"], "Sale [A];VIP"),
        # brackets are not read as a set of characters
        ({"segment_labels": {"Sale [A]": "S", "VIP": "Gold"}, "segment_priority": ["Sale [A]"]}, [], "S;Gold"),
    ],
)
def test_an_entry_that_is_no_name_of_a_segment_is_named_with_the_nearest(
    pipeline: Pipeline, settings: dict[str, object], words: list[str], value: str
) -> None:
    pipeline.target |= settings
    pipeline.activate()
    outcome = pipeline.load(singer([{"email": "a@example.com", "segments": ["VIP", "Sale [A]"]}]))
    assert outcome.code == 0, outcome.log
    warnings = [line for line in outcome.log.splitlines() if "the name of no segment" in line]
    assert len(warnings) == bool(words)
    assert all(word in warnings[0] for word in words)
    assert pipeline.sandbox.account.snapshot()["a@example.com"].data_fields["NOSTOSEGMENT"] == value
