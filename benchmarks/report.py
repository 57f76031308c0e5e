"""Prints figures: what was measured, the target, and whether it is met."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured figure. `most` or `least` is its target, in the same unit."""

    name: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None
    remark: str = ""

    def line(self) -> str:
        """Return the figure as a line for people."""
        target = (
            f"at most {self.most:g}"
            if self.most is not None
            else f"at least {self.least:g}"
            if self.least
            else ""
        )
        verdict = "" if not target else "ok" if self.good else "MISSED"
        return (
            f"{self.name:58} {self.value:10.3f} {self.unit:14} {target:16} {verdict:7}"
            f" {self.remark}"
        )

    @property
    def good(self) -> bool:
        """Whether the target is met."""
        return (self.most is None or self.value <= self.most) and (
            self.least is None or self.value >= self.least
        )
