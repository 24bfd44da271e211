"""Templates: everything escaped, nothing hidden, and each line of the tables has what it names."""

from importlib.resources import files

from coderd.api.rules import RULES
from coderd.dashboard.io.render import byte_size, make_environment, when
from coderd.dashboard.table import ACTIONS, PAGES, RULE_OF


def test_markup_and_what_no_eye_can_see_do_nothing() -> None:
    render = make_environment().from_string("{{ text }}").render
    assert render(text="<b>&\"'") == "&lt;b&gt;&amp;&#34;&#39;"
    assert render(text="a\u202eb\u0000c\u2066d\u200be\x1b[0m") == "a�b�c�d�e�[0m"
    assert render(text="é – 日本") == "é – 日本"


def test_moments_and_sizes_are_for_people() -> None:
    assert str(when(None)) == "never"
    assert str(when(0.0)) == '<time datetime="1970-01-01T00:00:00Z">1970-01-01 00:00 UTC</time>'
    assert [byte_size(size) for size in (0, 999, 1500, 120_000, 5e9, 7e12)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "120 kB",
        "5.0 GB",
        "7.0 TB",
    ]


def test_each_line_of_the_tables_has_its_template_and_its_operation() -> None:
    templates = {entry.name for entry in (files("coderd.dashboard") / "templates").iterdir()}
    wanted = {page.template for page in PAGES} | {action.answer for action in ACTIONS if action.answer}
    assert wanted <= templates
    assert {ask.operation for page in PAGES for ask in page.asks} <= RULE_OF.keys()
    for action in ACTIONS:
        rule = RULE_OF[action.operation]
        assert rule.method != "GET"
        assert {name for name in ("key", "id", "user") if f"{{{name}}}" in rule.path} == set(action.keys)
        wish = rule.request or rule.query
        assert set(action.fields) <= set(wish.__struct_fields__ if wish else ())
        assert action.page in {page.path for page in PAGES}
    paths = [line.path for line in (*PAGES, *ACTIONS)]
    assert len(paths) == len(set(paths))
    assert len(RULES) == len(RULE_OF)
