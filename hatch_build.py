# SPDX-License-Identifier: GPL-2.0-only
"""Puts the man pages into the wheel, made from the command line's parser at that moment."""

import sys
import tempfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict) -> None:
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from xdprouter import manual
        from xdprouter.cli import make_parser

        self._directory = tempfile.TemporaryDirectory()
        for name, text in manual.pages(make_parser()).items():
            path = Path(self._directory.name) / name
            path.write_text(text)
            build_data["shared_data"][str(path)] = f"share/man/man1/{name}"

    def finalize(self, version: str, build_data: dict, artifact_path: str) -> None:
        if version != "editable":
            self._directory.cleanup()
