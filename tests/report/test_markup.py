# SPDX-License-Identifier: Apache-2.0
from html.parser import HTMLParser

from iclmsr.report.markup import Html, element, table


def test_what_is_not_markup_is_escaped():
    found = element("td", "<script>alert('x')</script>", Html("<b>y</b>"), None, title='a"b')
    assert found == (
        '<td title="a&quot;b">&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;<b>y</b></td>'
    )


def test_attributes():
    assert element("input", class_="a", data_x=0, hidden=False, id=None) == (
        '<input class="a" data-x="0">'
    )
    assert element("path", d="M0 0") == '<path d="M0 0"/>'
    assert element("details", open=True) == "<details open></details>"


def test_a_table_names_its_columns_and_rows():
    tags = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, dict(attributes).get("scope")))

    Reader().feed(table("what", ["", "a"], [["one", 1], ["two", None]]))
    assert tags.count(("th", "col")) == 2
    assert tags.count(("th", "row")) == 2
    assert ("caption", None) in tags
