from __future__ import annotations

from mealkit.data.report import Report


def test_entries_are_kept_once_and_shown():
    report = Report()
    assert str(report) == "No problems with the inputs"
    for _ in range(2):
        report.add("a.jpg", "empty (0 bytes)")
    report.add("a.jpg", "something else")
    assert len(report) == 2
    assert str(report).splitlines() == [
        "2 problems with the inputs",
        "a.jpg: empty (0 bytes)",
        "a.jpg: something else",
    ]
    frame = report.to_frame()
    assert list(frame.columns) == ["input", "problem"]
    assert frame["problem"].tolist() == ["empty (0 bytes)", "something else"]


def test_an_empty_report_has_its_columns():
    assert list(Report().to_frame().columns) == ["input", "problem"]


def test_long_reports_are_cut_on_screen_only():
    report = Report()
    for number in range(1234):
        report.add(f"{number}.jpg", "broken")
    assert "1,234 problems" in str(report)
    assert str(report).endswith("... and 1,214 more; to_frame() has them all")
    assert len(report.to_frame()) == 1234


def test_names_of_files_are_no_html():
    report = Report()
    report.add("<script>.jpg", "a & b")
    assert "&lt;script&gt;.jpg</td><td>a &amp; b" in report._repr_html_()
