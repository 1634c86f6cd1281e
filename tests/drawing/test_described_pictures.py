from __future__ import annotations

from stepfunction import StepFunction


def drawn(said, picture):
    workflow = StepFunction("Sale", description=said)
    workflow.add_step("Pay", str, description=said).set_start_step("Pay")
    workflow.execute(1).visualize(picture)
    return picture.read_text()


def test_a_picture_has_what_a_step_is_described_by(tmp_path):
    assert "charges the card" in drawn("charges the card", tmp_path / "it.svg")


def test_a_hostile_description_is_escaped(tmp_path):
    hostile = 'say "hi"\\n & <b onclick=x>\n\x1b[31m</title>]]>\r\ud800\0'
    assert "<b onclick" not in drawn(hostile, tmp_path / "it.svg")
