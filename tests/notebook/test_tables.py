"""Tables that a notebook displays."""

from __future__ import annotations

import pytest

from trainer.notebook.tables import Table


def test_a_table_is_html_without_markup_of_its_values() -> None:
    text = Table([{"<a>": 1 / 3, "b": None}, {"b": "<script>"}])._repr_html_()
    assert text == (
        "<table><thead><tr><th>&lt;a&gt;</th><th>b</th></tr></thead>"
        "<tbody><tr><td>0.333333</td><td></td></tr><tr><td></td><td>&lt;script&gt;</td></tr></tbody></table>"
    )


def test_an_unknown_column_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="the columns are step, loss"):
        Table([{"step": 1, "loss": 2}]).column("los")
