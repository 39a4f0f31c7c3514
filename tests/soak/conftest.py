"""The engine is the one that the robustness tests hurt."""

from robustness.conftest import mortal  # noqa: F401
