"""The arguments of a run: what may be written, what is refused and in which words."""

import json
import sys

import pytest
from examples import tried_on
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flowfs.arguments import (
    Scanner,
    State,
    Uploads,
    check,
    dump,
    normalize,
    parse,
    scan,
    template,
)
from flowfs.errors import InvalidArguments

names = st.text(max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
mappings = st.dictionaries(names, values, max_size=4)
layouts = st.sampled_from([{}, {"indent": 2}, {"ensure_ascii": False}, {"separators": (",", ":")}])
documents = st.builds(
    lambda value, layout: json.dumps(value, **layout).encode("utf-8", "surrogatepass"),
    st.lists(values) | st.dictionaries(st.text(), values),
    layouts,
)
blanks = st.text(" \t\r\n", max_size=4).map(str.encode)


def words(call, *args, **kwargs):
    with pytest.raises(InvalidArguments) as caught:
        call(*args, **kwargs)
    assert caught.value.errno
    assert "\n" not in caught.value.strerror
    return caught.value.strerror


def listed(mapping):
    return [{"name": name, "value": value} for name, value in mapping.items()]


# -- parse and normalize -----------------------------------------------------------------------


@given(mappings)
def test_every_accepted_form_of_the_same_arguments_is_the_same(mapping):
    entries = [{**entry, "label": "x", "dtype": "int"} for entry in listed(mapping)]
    # A lone `arguments` is the wrapped form; the next tests are about that.
    if list(mapping) != ["arguments"]:
        assert parse(json.dumps(mapping)) == listed(mapping)
    assert parse(json.dumps(entries).encode()) == listed(mapping)
    assert parse(json.dumps({"arguments": entries}).encode("utf-8-sig")) == listed(mapping)


@given(mappings)
def test_what_is_dumped_can_be_parsed_again(mapping):
    data = dump(listed(mapping))
    assert data.endswith(b"]\n")
    assert parse(data) == listed(mapping)


@given(st.text() | st.binary() | values.map(json.dumps) | documents)
def test_any_text_gives_arguments_or_is_refused_in_one_line(data):
    try:
        arguments = parse(data, "new")
    except InvalidArguments as error:
        refused = error
    else:
        assert all(list(each) == ["name", "value"] for each in arguments)
        return
    assert refused.filename == "new"
    assert "\n" not in refused.strerror


def test_a_parameter_may_itself_be_called_arguments():
    declared = [{"name": "arguments", "dtype": "string"}]
    assert parse('{"arguments": "x"}', None, declared) == [{"name": "arguments", "value": "x"}]
    assert parse('{"arguments": []}', None, declared) == [{"name": "arguments", "value": []}]
    wrapped = '{"arguments": [{"name": "arguments", "value": "x"}]}'
    assert parse(wrapped, None, declared) == [{"name": "arguments", "value": "x"}]
    assert parse('{"arguments": {"a": 1}}') == [{"name": "a", "value": 1}]
    assert parse('{"arguments": []}') == []


def test_arguments_beside_other_names_is_a_name():
    assert parse('{"arguments": 1, "a": 2}') == listed({"arguments": 1, "a": 2})


def test_no_arguments_may_be_given():
    assert parse("{}") == parse("[]") == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b'{"a": 1,\n "b": }', "at line 2 column 7"),
        (b"[1", "not JSON"),
        (b"{} {}", "several documents in one: something follows the first at line 1 column 4"),
        (b"{}\n\n  x", "line 3 column 3"),
        (b'{"a": 1, "a": 2}', "the key 'a' comes twice"),
        (b'{"a": {"b": 1, "b": 1}}', "the key 'b' comes twice"),
        (b'[{"name": "a", "value": 1}, {"name": "a", "value": 2}]', "non-unique run argument 'a'"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1e999}', "too large"),
        (b'[{"value": 1}]', "missing element 'name'"),
        (b'[{"name": "a"}]', "argument 1 ('a'): missing element 'value'"),
        (
            b'[{"name": 1, "value": 1}]',
            "name is a string, not a number",
        ),
        (b'["a"]', "argument 1 is a string"),
        (b'"a"', "not a string"),
        (b"12", "not a number"),
        (b"true", "not a Boolean"),
        (b"null", "not null"),
        (b'{"arguments": "x"}', "not a string"),
        (b'{"a": "\xff"}', "not UTF-8: byte 0xff at offset 7"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": "\n"}', "Invalid control character"),
    ],
)
def test_a_document_that_cannot_be_meant_is_refused_with_the_place(data, message):
    assert message in words(parse, data)


def test_nesting_too_deep_is_refused():
    assert "too deep" in words(parse, b"[" * 100_000 + b"]" * 100_000)
    assert "too deep" in scan(b"[" * 100_000 + b"]" * 100_000).message


@pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="no such limit")
def test_an_integer_beyond_pythons_limit_is_refused():
    assert "too many digits" in words(parse, b'{"a": ' + b"1" * 5000 + b"}")
    assert "cannot be written as JSON" in words(normalize, {"a": 10**5000})


def test_an_escaped_line_end_in_a_key_keeps_the_message_in_one_line():
    assert r"'a\nb'" in words(parse, r'{"a\nb": 1, "a\nb": 2}')


def test_python_objects_are_taken_and_copied():
    inner = {"b": (1, 2)}
    [argument] = normalize({"a": inner})
    inner["b"] = ()
    assert argument == {"name": "a", "value": {"b": [1, 2]}}
    assert normalize(({"name": "a", "value": 1.5},)) == listed({"a": 1.5})


@pytest.mark.parametrize("value", [{1, 2}, b"x", object(), float("nan"), [float("inf")]])
def test_python_objects_that_json_has_nothing_for_are_refused(value):
    assert "the value of 'a' cannot be written as JSON" in words(normalize, {"a": value})


def test_python_objects_in_a_circle_are_refused():
    circle = []
    circle.append(circle)
    assert "cannot be written" in words(normalize, {"a": circle})


@pytest.mark.parametrize("document", ["x", b"x", 1, None, {1: 2}, {"a"}])
def test_python_objects_of_another_form_are_refused(document):
    assert "write" in words(normalize, document)


def test_numbers_that_json_lacks_are_dumped_as_the_words_the_service_takes():
    dumped = dump([{"name": "a", "value": float("inf")}, {"name": "b", "value": [float("nan")]}])
    assert parse(dumped) == listed({"a": "inf", "b": ["nan"]})


def test_unpaired_surrogates_survive():
    assert parse(dump(listed({"a": "\ud800"}))) == listed({"a": "\ud800"})


def test_letters_are_dumped_as_they_are():
    assert "日本" in dump(listed({"a": "日本"})).decode()


@given(st.integers(1, 3000))
@settings(max_examples=30)
def test_nesting_of_any_depth_is_parsed_and_dumped_or_refused(depth):
    try:
        dump(parse('{"a": ' + "[" * depth + "]" * depth + "}"))
    except InvalidArguments:
        assert depth > 250


# -- scan --------------------------------------------------------------------------------------


@given(documents, blanks, blanks, st.booleans(), st.floats(0, 1))
def test_a_document_is_complete_at_its_last_bracket_and_never_invalid_before(
    document, before, after, bom, cut
):
    lead = (b"\xef\xbb\xbf" if bom else b"") + before
    whole = lead + document
    scanner = Scanner()
    for end in range(1, len(whole)):
        progress = scanner.feed(whole[end - 1 : end])
        if end == int(cut * len(whole)):
            assert progress == scan(whole[:end])
        assert progress.state in (State.EMPTY, State.INCOMPLETE)
        assert progress.message
    assert scanner.feed(whole[-1:]).state is State.COMPLETE
    assert scanner.feed(after).state is State.COMPLETE
    assert scanner.text == whole
    assert parse_or_none(scanner.text) == parse_or_none(whole + after)


@given(documents, st.sampled_from([None, 1]))
def test_a_document_written_in_lines_is_not_invalid_before_its_last(document, indent):
    whole = json.dumps(json.loads(document), indent=indent, separators=(" \n,", "\n : ")).encode()
    scanner = Scanner()
    for end in range(1, len(whole)):
        assert scanner.feed(whole[end - 1 : end]).state is not State.INVALID
    assert scanner.feed(whole[-1:]).state is State.COMPLETE


def parse_or_none(data):
    try:
        return parse(data)
    except InvalidArguments:
        return None


@given(st.binary(max_size=30) | documents, st.data())
@example(b"{}{}", None)
@example(b"[}", None)
def test_the_end_is_the_same_however_the_bytes_are_split(document, data):
    scanner = Scanner()
    at = 0
    while at < len(document):
        step = 1 if data is None else data.draw(st.integers(1, len(document) - at))
        progress = scanner.feed(document[at : at + step])
        at += step
    assert scanner.progress.state is scan(document).state
    if document:
        assert progress is scanner.progress


@given(documents, blanks, st.binary(min_size=1).filter(lambda data: data.strip(b" \t\r\n")))
def test_anything_after_a_document_is_several_documents(document, between, more):
    progress = scan(document + between + more)
    assert progress.state is State.INVALID
    assert "several documents" in progress.message
    scanner = Scanner()
    assert scanner.feed(document + between).state is State.COMPLETE
    assert scanner.feed(more).state is State.INVALID
    assert scanner.feed(b"\n").state is State.INVALID


@pytest.mark.parametrize("text", [b"", b" \n\t\r", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"])
def test_blanks_are_empty(text):
    assert scan(text).state is State.EMPTY


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b'{"a',
        b'{"a\\',
        b'{"a": "]}',
        b"[1",
        b"[tru",
        b"[1.",
        b'["\xe6\x97',
        b"\xef",
        b"\xef\xbb",
    ],
)
def test_a_beginning_is_incomplete(text):
    assert scan(text).state is State.INCOMPLETE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"12", "not a JSON object or array: it begins with '12'"),
        (b'"abc"', "not a JSON object or array"),
        (b"null", "not a JSON object or array"),
        (b"\xff", "not a JSON object or array"),
        (b"\xefx", "not a JSON object or array"),
        (b" \xef\xbb\xbf{}", "not a JSON object or array"),
        (b"name: x", "not a JSON object or array"),
        (b"}", "not a JSON object or array"),
        (b"[}", "not JSON"),
        (b"[1 2]", "at line 1 column 4"),
        (b'\n{"a":\n}', "at line 3 column 1"),
        (b'["\xff"]', "not UTF-8"),
        (b'{"a": 1, "a": 2}', "comes twice"),
        (b"[NaN]", "NaN is not JSON"),
        (b"{}{}", "several documents in one"),
        (b"{not json\n", "at line 1 column 2"),
        (b'{"a": 1,\n"b" 2\n', "at line 2 column 5"),
        (b'{"a": "no end\n', "control character at line 1 column 14"),
        (b"[tru\n", "at line 1 column 2"),
        (b'{"a": \xff,\n', "not UTF-8"),
    ],
)
def test_what_can_never_be_one_document_is_invalid(text, message):
    progress = scan(text)
    assert progress.state is State.INVALID
    assert message in progress.message


def test_a_large_document_byte_by_byte_takes_linear_time():
    document = json.dumps({"a": ['x\\"]}' * 10] * 10_000}).encode()
    scanner = Scanner()
    for at in range(len(document)):
        progress = scanner.feed(document[at : at + 1])
    assert progress.state is State.COMPLETE


# -- check -------------------------------------------------------------------------------------


def parameter(name, dtype, **more):
    return {"name": name, "dtype": dtype, "index": 0, "isRequired": True, **more}


HELLO = [
    parameter("names", "file", index=0, label="Input file", target="data/names.txt"),
    parameter("sleeptime", "int", index=1, label="Sleep", defaultValue=10, isRequired=True),
    parameter("greeting", "string", index=2, isRequired=False, target=None),
]
UPLOADS = Uploads({"names.txt": "f1", "f2": "f3"}, {"f2", "f9"})


@pytest.mark.parametrize(
    ("given_value", "sent"),
    [
        ("names.txt", {"fileId": "f1"}),
        ("f1", {"fileId": "f1"}),
        ("f9", {"fileId": "f9"}),
        ("f2", {"fileId": "f3"}),
        ({"fileId": "names.txt"}, {"fileId": "f1"}),
        ({"fileId": "f1", "targetPath": "x"}, {"fileId": "f1", "targetPath": "x"}),
        ({"fileId": "f1", "targetPath": None}, {"fileId": "f1"}),
        ({"type": "$file", "value": {"fileId": "names.txt"}}, {"fileId": "f1"}),
        (
            {"type": "$file", "value": {"fileId": "f1", "targetPath": "x"}},
            {"fileId": "f1", "targetPath": "x"},
        ),
    ],
)
def test_a_file_is_an_uploads_name_or_else_its_id(given_value, sent):
    checked = check(listed({"names": given_value}), HELLO, UPLOADS)
    assert checked == listed({"names": {"type": "$file", "value": sent}})
    assert check(checked, HELLO, Uploads({}, ["f1", "f3", "f9"])) == checked


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nope", "unknown file 'nope' (uploads are names.txt, f2) for 'names'"),
        ({"fileId": 12}, "unknown file '12'"),
        ({"fileId": ["f1"]}, "unknown file"),
        (12, "not a file '12'"),
        (["f1"], "not a file"),
        ({}, "missing element 'fileId'"),
        ({"type": "$file"}, "not a file '{'type': '$file'}'"),
        ({"fileId": "f1", "x": 1}, "unknown element 'x'"),
    ],
)
def test_what_is_no_upload_is_refused(value, message):
    assert message in words(check, listed({"names": value}), HELLO, UPLOADS)


def test_the_uploads_named_are_few():
    uploads = Uploads({f"u{number}": str(number) for number in range(20)})
    message = words(check, listed({"names": "x"}), HELLO, uploads)
    assert "u0, u1, u2, u3, u4, u5, u6, u7 and 12 more" in message
    assert "there are no uploads" in words(check, listed({"names": "x"}), HELLO, Uploads({}))


def test_without_a_list_of_uploads_a_file_is_an_id():
    checked = check(listed({"names": "x"}), HELLO, None)
    assert checked == listed({"names": {"type": "$file", "value": {"fileId": "x"}}})


def test_a_file_needs_a_target_from_somewhere():
    bare = [parameter("f", "file", target=None)]
    assert "missing target path" in words(check, listed({"f": "f1"}), bare, UPLOADS)
    assert check(listed({"f": {"fileId": "f1", "targetPath": "x"}}), bare, UPLOADS)
    assert check(listed({"f": "f1"}), [parameter("f", "file", target="x")], UPLOADS)
    assert check(listed({"f": "f1"}), [parameter("f", "file", target=None, defaultValue="x")])
    assert check(listed({"f": "f1"}), [parameter("f", "file")], UPLOADS)


def test_everything_wrong_is_said_at_once():
    message = words(check, listed({"nope": 1, "sleeptime": "abc", "mode": 3}), HELLO, UPLOADS)
    for each in (
        "unknown parameter 'nope'",
        "unknown parameter 'mode'",
        "no int 'abc' for 'sleeptime'",
        "missing argument for 'names'",
        "the parameters are names, sleeptime, greeting",
    ):
        assert each in message


def test_the_error_names_the_place():
    with pytest.raises(InvalidArguments) as caught:
        check([], HELLO, path="groups/G/runs/new")
    assert caught.value.filename == "groups/G/runs/new"


def test_null_is_not_given():
    assert check(listed({"names": "f1", "greeting": None, "sleeptime": None}), HELLO) == check(
        listed({"names": "f1"}), HELLO
    )
    assert "missing argument for 'names'" in words(check, listed({"names": None}), HELLO)
    assert "unknown parameter 'x'" in words(check, listed({"names": "f1", "x": None}), HELLO)


def test_without_declarations_nothing_is_refused():
    assert check(listed({"a": 1, "b": None}), None) == listed({"a": 1})
    assert "there are no parameters" in words(check, listed({"a": 1}), [])


@pytest.mark.parametrize(
    ("declaration", "value", "message"),
    [
        (parameter("p", "int"), "abc", "no int 'abc'"),
        (parameter("p", "int"), [1], "no int '[1]'"),
        (parameter("p", "float"), "x", "no float 'x'"),
        (parameter("p", "bool"), "x", "not a Boolean 'x'"),
        (parameter("p", "bool"), 1.0, "not a Boolean '1.0'"),
        (parameter("p", "int", range="[0,10)"), 10, "10 not in [0.0,10.0)"),
        (parameter("p", "float", range="(0,]"), "0", "0.0 not in (0.0,inf]"),
        (parameter("p", "select", values=[{"name": "A", "value": "a"}]), "x", "unknown value 'x'"),
        (parameter("p", "list", para=parameter("q", "int")), "x", "invalid argument type"),
        (parameter("p", "list", para=parameter("q", "int")), [1, "x"], "no int 'x'"),
        (parameter("p", "record", fields=[]), {}, "invalid argument type"),
        (
            parameter("p", "record", fields=[parameter("q", "int")]),
            [{"name": "r", "value": 1}],
            "unknown argument 'r' for 'p'; missing field 'q' for 'p'",
        ),
    ],
)
def test_a_value_the_service_would_refuse_is_refused_in_its_words(declaration, value, message):
    assert message in words(check, listed({"p": value}), [declaration])


@pytest.mark.parametrize(
    ("declaration", "value"),
    [
        (parameter("p", "int"), "12"),
        (parameter("p", "int"), 1.5),
        (parameter("p", "int"), True),
        (parameter("p", "int"), "inf"),
        (parameter("p", "float"), "nan"),
        (parameter("p", "bool"), "T"),
        (parameter("p", "bool"), ""),
        (parameter("p", "bool"), 0),
        (parameter("p", "int", range="[0,10)"), 0),
        (parameter("p", "int", range="nonsense"), 99),
        (parameter("p", "int", range=[0, 1]), 99),
        (parameter("p", "string"), {"any": "thing"}),
        (parameter("p", "select", values=[{"name": "A", "value": 1}]), True),
        (parameter("p", "select", values=None), "x"),
        (parameter("p", "select", values=["x"]), "y"),
        (parameter("p", "list"), ["x"]),
        (parameter("p", "list", para=parameter("q", "bool")), [None]),
        (parameter("p", "record", fields=None), []),
        (parameter("p", "record", fields=[7]), [{"name": "q", "value": 1}]),
        (parameter("p", "matrix"), "x"),
        (parameter("p", ["int"]), "x"),
        ({"name": "p"}, "x"),
    ],
)
def test_what_the_service_would_take_or_has_rules_unknown_is_taken(declaration, value):
    assert check(listed({"p": value}), [declaration]) == listed({"p": value})


def test_a_declaration_without_a_name_leaves_names_to_the_service():
    assert check(listed({"p": 1}), [{"dtype": "int"}, "nonsense"]) == listed({"p": 1})


def test_long_and_unprintable_values_stay_in_one_line():
    message = words(check, listed({"p": "x\n" * 500}), [parameter("p", "int")])
    assert len(message) < 200


junk = st.recursive(
    scalars | st.floats() | st.sampled_from(["int", "float", "bool", "select", "list", "file"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("name", "dtype", "index", "isRequired", "defaultValue", "label", "target"),
                    *("para", "fields", "values", "value", "isDefault", "range", "fileId", "type"),
                ]
            ),
            inner,
        )
    ),
    max_leaves=20,
)


@given(mappings | st.dictionaries(names, junk), st.lists(junk))
def test_declarations_of_any_shape_break_nothing(mapping, declarations):
    try:
        arguments = normalize(mapping, None, declarations)
        check(arguments, declarations, UPLOADS)
    except InvalidArguments:
        pass
    json.loads(template(declarations))


# -- template ----------------------------------------------------------------------------------


def test_a_template_lists_parameters_in_order_with_defaults():
    declared = [
        parameter("b", "int", index=1, defaultValue=3, label="Bees", isRequired=False),
        parameter("f", "file", index=0, target=None, defaultValue="data/in.txt"),
        parameter(
            "c",
            "select",
            index=2,
            values=[
                {"name": "A", "value": "a"},
                {"name": "B", "value": "b", "isDefault": True},
            ],
        ),
    ]
    data = template(declared)
    assert data.endswith(b"\n")
    assert json.loads(data) == [
        {"name": "f", "value": None, "label": "f", "dtype": "file", "isRequired": True},
        {"name": "b", "value": 3, "label": "Bees", "dtype": "int", "isRequired": False},
        {
            "name": "c",
            "value": "b",
            "label": "c",
            "dtype": "select",
            "isRequired": True,
            "values": declared[2]["values"],
        },
    ]


dtypes = st.sampled_from(["int", "float", "bool", "string", "select", "file", "list", "x"])
defaulted = st.lists(
    st.builds(
        lambda name, dtype, default, index: {
            "name": name,
            "dtype": dtype,
            "isRequired": True,
            "defaultValue": default,
            "index": index,
            "values": [{"name": "A", "value": 1}],
        },
        names,
        dtypes,
        values.filter(lambda value: value is not None),
        st.integers() | st.none(),
    ),
    unique_by=lambda declaration: declaration["name"],
)


@given(defaulted)
def test_a_template_whose_required_parameters_have_defaults_can_be_started_as_it_is(declared):
    check(parse(template(declared), None, declared), declared, UPLOADS)


def test_an_unfilled_template_says_what_is_missing():
    arguments = parse(template(HELLO))
    assert words(check, arguments, HELLO, UPLOADS).endswith("missing argument for 'names'")


# -- against the service's own classes ---------------------------------------------------------

sent = (
    scalars
    | st.sampled_from(
        ["inf", "-inf", "nan", "12", " 7 ", "1_000", "1.5", "true", "F", "٣", "", "0"]
    )
    | st.lists(scalars, max_size=2)
    | st.dictionaries(st.text(max_size=2), scalars, max_size=2)
)
sides = st.sampled_from(["", "0", "-1.5", "10", "inf", "1e3", "nan", " 3", "x"])
ranges = st.builds(
    lambda left, low, high, right: f"{left}{low},{high}{right}",
    st.sampled_from(["[", "(", " ["]),
    sides,
    sides,
    st.sampled_from(["]", ")", ") "]),
)
numbers = st.builds(
    lambda dtype, limits: parameter("p", dtype, **limits),
    st.sampled_from(["int", "float"]),
    st.just({}) | st.fixed_dictionaries({"range": ranges}),
)
plain = st.sampled_from(["bool", "string"]).map(lambda dtype: parameter("p", dtype))
selects = st.lists(scalars, max_size=4).map(
    lambda choices: parameter("p", "select", values=[{"name": "", "value": c} for c in choices])
)
simple = numbers | plain | selects
lists = simple.map(lambda para: parameter("p", "list", para=para))
records = st.lists(
    st.tuples(st.sampled_from("abc"), simple, st.booleans()), max_size=3, unique_by=lambda f: f[0]
).map(
    lambda fields: parameter(
        "p", "record", fields=[{**para, "name": n, "isRequired": r} for n, para, r in fields]
    )
)
record_values = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abcd"), "value": sent}), max_size=3
)


@tried_on(1000)
@given(
    st.one_of(
        st.tuples(simple, sent),
        st.tuples(lists, st.lists(sent, max_size=3) | sent),
        st.tuples(records, record_values | sent),
    )
)
def test_what_the_service_accepts_is_accepted_and_what_is_refused_it_refuses(case):
    factory = pytest.importorskip("flowserv.model.parameter.factory")
    declaration, value = case
    if value is None:
        return  # not given, whatever the type
    try:
        real = factory.ParameterDeserializer.from_dict(declaration)
    except Exception:
        # The service would not have this parameter; ours must only not break.
        real = None
    accepted = True
    if real is not None:
        try:
            real.cast(value)
        except Exception:  # some of its refusals are crashes
            accepted = False
    try:
        check(listed({"p": value}), [declaration])
    except InvalidArguments:
        assert real is None or not accepted
    else:
        assert real is None or accepted
