"""Scores as a plain text table, for people."""

from collections.abc import Mapping


def render_table(rows: Mapping[str, Mapping[str, float | None]]) -> str:
    """Row name -> metric -> score as an aligned table, scores times 100, "-" for what is not there.

    Columns are the metrics of the first row, in its order.
    """
    if not rows:
        return ""
    columns = list(next(iter(rows.values())))
    cells = [["", *columns]]
    for name, scores in rows.items():
        values = (scores.get(column) for column in columns)
        cells.append([name, *("-" if value is None else f"{100 * value:.1f}" for value in values)])
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns) + 1)]
    lines = []
    for first, *rest in cells:
        numbers = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *numbers]).rstrip())
    return "\n".join(lines)
