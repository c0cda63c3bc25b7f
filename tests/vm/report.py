# SPDX-License-Identifier: GPL-2.0-only
"""What a JUnit report says of a run in a guest. A skip is right only where it names a feature that the kernel may lack."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from tests.features import FEATURES, SKIPPED


@dataclass
class Report:
    passed: int = 0
    skipped: list[str] = field(default_factory=list)
    """Names of features, as often as a test was skipped for the lack of them"""
    problems: list[str] = field(default_factory=list)
    """One line each: tests that failed, or were skipped without the right to be"""


def read(path: Path, must_have: Collection[str]) -> Report:
    """Of pytest's --junitxml. A report that is not there, or broken off, is a problem."""
    report = Report()
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        report.problems.append(f"no JUnit report: {error}")
        return report
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name', '')}"
        bad = next((element for element in case if element.tag in ("failure", "error")), None)
        skip = case.find("skipped")
        if bad is not None:
            report.problems.append(f"{name}: {' '.join((bad.get('message') or bad.tag).split())}")
        elif skip is not None:
            reason = skip.get("message") or ""
            feature = reason.removeprefix(SKIPPED)
            if feature == reason or feature not in FEATURES or feature in must_have:
                report.problems.append(f"{name}: skipped: {reason}")
            else:
                report.skipped.append(feature)
        else:
            report.passed += 1
    return report
