#!/usr/bin/env python3
"""Draws the dashboards for the documentation, each panel from what its own queries answer. Not a screenshot of Grafana.

    render_dashboards.py PROMETHEUS BEGAN ENDED DIRECTORY      writes DIRECTORY/dashboard-{cost,cache,limits,service}.png

Needs matplotlib (scripts/render_dashboards.requirements.txt); `E2E_RENDER=docs/img tests/e2e/dashboards.sh` installs it and has a
Prometheus with data at hand. Panels stand where `gridPos` puts them.
"""

import datetime
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.dates as dates  # noqa: E402
import matplotlib.pyplot as pyplot  # noqa: E402
import numpy  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "e2e"))
from dashboards_lib import Prometheus, fill, is_number, load  # noqa: E402

COLUMN, ROW, DPI = 0.72, 0.40, 90
GAP_X, GAP_Y = 0.12, 0.10
PAGE, CARD, INK, FAINT = "#f4f5f5", "#ffffff", "#24292e", "#8e939a"
COLORS = {"green": "#3a9d5d", "yellow": "#d9a514", "orange": "#e0752d", "red": "#d44a3a", "blue": "#3274d9"}
CYCLE = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#8ab8ff", "#b877d9", "#705da0", "#37872d", "#c4162a", "#447ebc",
         "#806eb7"]
MOST = 8


def written(value, unit, decimals=None):
    """A number as people read it."""
    if not is_number(value):
        return "–"
    if unit == "percentunit":
        return f"{value * 100:.{1 if decimals is None else decimals}f}%"
    if unit == "currencyUSD":
        small = 0 < abs(value) < 0.01
        return f"{'-' if value < 0 else ''}${abs(value):,.{4 if small else 2}f}"
    if unit == "s":
        for size, name in ((86400, "day"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return "0 s" if value == 0 else f"{value * 1e6:.2g} µs"
    if unit == "bytes":
        for size, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if abs(value) >= size:
                return f"{value / size:.4g} {name}"
        return f"{value:.0f} B"
    if unit.startswith("bool"):
        return ("On", "Off")[int(value == 0)] if unit == "bool_on_off" else ("Yes", "No")[int(value == 0)]
    if decimals is not None:
        return f"{value:.{decimals}f}"
    text = f"{value / 1e6:.3g}M" if abs(value) >= 1e6 else f"{value / 1e3:.3g}K" if abs(value) >= 1e4 else f"{value:.3g}"
    return text + {"reqps": " req/s", "ops": " ops/s"}.get(unit, "")


def color_of(value, panel):
    shown = "green"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            shown = step["color"]
    return COLORS[shown]


def name_of(target, labels):
    legend = target["legendFormat"]
    if legend == "__auto":
        return ", ".join(labels.values()) or "value"
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found.group(1), ""), legend).strip() or "none"


class Painter:
    def __init__(self, monitor, began, ended):
        self.monitor, self.began, self.ended = monitor, began, ended
        self.rate = max(15, (ended - began) // 20)
        self.step = max(1, (ended - began) // 150)

    def instant(self, panel):
        for target in panel["targets"]:
            for labels, value in self.monitor.instant(fill(target["expr"], self.ended - self.began, self.rate), self.ended):
                yield target, labels, value

    def ranges(self, panel):
        for target in panel["targets"]:
            expr = fill(target["expr"], self.ended - self.began, self.rate)
            for labels, points in self.monitor.range(expr, self.began, self.ended, self.step):
                yield target, labels, points

    def stat(self, axes, panel, unit, decimals):
        found = list(self.instant(panel))
        axes.axis("off")
        for place, (target, labels, value) in enumerate(found):
            at = (place + 0.5) / len(found)
            several = len(found) > 1
            axes.text(at, 0.52 if several else 0.46, written(value, unit, decimals), ha="center", va="center",
                      color=color_of(value, panel), fontsize=15 if several else 21, transform=axes.transAxes)
            if several:
                axes.text(at, 0.16, name_of(target, labels), ha="center", va="center", color=FAINT, fontsize=8,
                          transform=axes.transAxes)

    def bargauge(self, axes, panel, unit, decimals):
        found = sorted(((value, name_of(target, labels)) for target, labels, value in self.instant(panel)), reverse=True)[:14]
        values = [value for value, _ in found]
        axes.barh(range(len(found)), values, color=[color_of(value, panel) for value in values], height=0.6)
        axes.set_yticks(range(len(found)), [name for _, name in found], fontsize=8)
        axes.set_ylim(max(len(found), 5) - 0.5, -0.5)
        most = panel["fieldConfig"]["defaults"].get("max", max(values, default=1)) or 1
        axes.set_xlim(0, max(most, max(values, default=0)) * 1.2)
        for place, value in enumerate(values):
            axes.text(value, place, " " + written(value, unit, decimals), va="center", fontsize=8, color=INK)
        axes.set_xticks([])
        for side in axes.spines.values():
            side.set_visible(False)

    def gauge(self, axes, panel, unit, decimals):
        self.bargauge(axes, panel, unit, decimals)
        axes.set_ylim(1.6, -0.6)

    def timeseries(self, axes, panel, unit, _):
        found = [(name_of(target, labels), points) for target, labels, points in self.ranges(panel)]
        # A zero that stood for "nothing yet" before there was a series.
        found = [each for each in found if each[0] != "none"] or found
        found.sort(key=lambda each: -max((value for _, value in each[1] if is_number(value)), default=0))
        times = numpy.arange(self.began, self.ended + 1, self.step)
        rows = []
        for name, points in found:
            by_time = {round(at): value for at, value in points if is_number(value)}
            rows.append((name, numpy.array([by_time.get(int(at), numpy.nan) for at in times])))
        clock = [datetime.datetime.fromtimestamp(at, datetime.timezone.utc) for at in times]
        stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
        if stacked and rows:
            axes.stackplot(clock, *[numpy.nan_to_num(values) for _, values in rows], labels=[name for name, _ in rows],
                           colors=CYCLE, alpha=0.75, linewidth=0)
        else:
            for place, (name, values) in enumerate(rows):
                axes.plot(clock, values, label=name, color=CYCLE[place % len(CYCLE)], linewidth=1.3)
        if panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"]["mode"] != "off":
            top = axes.get_ylim()[1]
            for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]:
                if step["value"] <= top * 1.3:
                    axes.axhline(step["value"], color=COLORS[step["color"]], linewidth=0.9, linestyle="--")
        low, high = axes.get_ylim()
        least = min((value for _, points in found for _, value in points if is_number(value)), default=0)
        axes.set_ylim(low if least < 0 else 0, high if high > 0.06 or least < 0 or rows and numpy.nanmax(rows[0][1]) > 0 else 1)
        axes.set_xlim(clock[0], clock[-1])
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axes.yaxis.set_major_formatter(lambda value, _: written(value, unit))
        axes.grid(color="#e4e6e8", linewidth=0.6)
        self.plain(axes)
        handles, names = axes.get_legend_handles_labels()
        if len(names) > MOST:
            names = names[:MOST - 1] + [f"and {len(names) - MOST + 1} more"]
            handles = handles[:MOST]
        longest = max(map(len, names), default=1)
        wide = max(1, min(len(names), int(axes.bbox.width / (longest * 5.2 + 30))))
        rows = -(-len(names) // wide)
        # Room for the times and for as many rows as there are.
        place, room = axes.get_position(), (0.3 + 0.155 * rows) / axes.figure.get_figheight()
        bottom = place.y0 - 0.85 / axes.figure.get_figheight() + room
        axes.set_position((place.x0, bottom, place.width, place.y1 - bottom))
        axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.2 / (place.y1 - bottom) / axes.figure.get_figheight()),
                    borderpad=0, borderaxespad=0, ncol=wide, fontsize=7, frameon=False,
                    handlelength=1, columnspacing=1, labelspacing=0.3)

    def heatmap(self, axes, panel, _, __):
        rows = {}
        for _, labels, points in self.ranges(panel):
            rows[float(labels["le"].replace("+Inf", "inf"))] = {round(at): value for at, value in points if is_number(value)}
        edges = sorted(edge for edge in rows if edge != float("inf"))
        times = numpy.arange(self.began, self.ended + 1, self.step)
        cells = numpy.array([[rows[edge].get(int(at), 0.0) for at in times] for edge in edges])
        cells[1:] -= cells[:-1].copy()
        clock = dates.date2num([datetime.datetime.fromtimestamp(at, datetime.timezone.utc) for at in times])
        cells = numpy.ma.masked_less_equal(cells, 1e-9)
        axes.pcolormesh(clock, range(len(edges)), cells, cmap="Oranges", shading="nearest", vmin=0)
        axes.set_yticks(range(0, len(edges), 2), [f"{edge:g}" for edge in edges[::2]], fontsize=7)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
        self.plain(axes)

    def table(self, axes, panel, unit, _):
        axes.axis("off")
        titles = panel["transformations"][1]["options"]["renameByName"]
        units = {each["matcher"]["options"]: each["properties"][0]["value"] for each in panel["fieldConfig"]["overrides"]}
        rows = {}
        for target, labels, value in self.instant(panel):
            known = tuple((key, labels.get(key, "")) for key in titles if not key.startswith("Value"))
            column = "Value" if len(panel["targets"]) == 1 else f"Value #{target['refId']}"
            rows.setdefault(known, dict(known))[column] = written(value, units.get(titles[column], unit))
        rows = sorted(rows.values(), key=lambda row: list(row.values()))[:16]
        cells = [[row.get(key, "") for key in titles] for row in rows]
        if not cells:
            return
        made = axes.table(cells, colLabels=list(titles.values()), loc="upper center", cellLoc="left", edges="horizontal")
        made.auto_set_font_size(False)
        made.set_fontsize(8)
        made.scale(1, 1.25)
        for (row, _), cell in made.get_celld().items():
            cell.set_edgecolor("#e4e6e8")
            cell.get_text().set_color(FAINT if row == 0 else INK)

    @staticmethod
    def plain(axes):
        axes.tick_params(labelsize=7, colors=FAINT, length=2)
        for name, side in axes.spines.items():
            side.set_visible(name in ("left", "bottom"))
            side.set_color("#d5d8db")

    def draw(self, board, path):
        high = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
        width, height, head = 24 * COLUMN, high * ROW + 0.9, 0.9
        figure = pyplot.figure(figsize=(width, height), dpi=DPI, facecolor=PAGE)
        began, ended = (datetime.datetime.fromtimestamp(at, datetime.timezone.utc) for at in (self.began, self.ended))
        figure.text(0.15 / width, 1 - 0.32 / height, f"Remora / {board['title']}", fontsize=17, color=INK, va="center")
        figure.text(0.15 / width, 1 - 0.66 / height,
                    f"Drawn from the answers of Prometheus to the panels' own queries, {began:%H:%M:%S} to {ended:%H:%M:%S} UTC of a test "
                    "run; this is not a screenshot of Grafana.", fontsize=9.5, color=FAINT, va="center")
        for panel in board["panels"]:
            pos = panel["gridPos"]
            left, top = pos["x"] * COLUMN, head + pos["y"] * ROW
            if panel["type"] == "row":
                figure.text((left + 0.15) / width, 1 - (top + 0.22) / height, panel["title"], fontsize=11, color=INK,
                            va="center", weight="bold")
                continue
            wide, tall = pos["w"] * COLUMN - GAP_X, pos["h"] * ROW - GAP_Y
            left += GAP_X / 2
            figure.add_artist(matplotlib.patches.Rectangle(
                (left / width, 1 - (top + tall) / height), wide / width, tall / height, transform=figure.transFigure,
                facecolor=CARD, edgecolor="#dfe1e4", linewidth=0.8, zorder=0))
            figure.text((left + 0.12) / width, 1 - (top + 0.2) / height, panel["title"], fontsize=9, color=INK, va="center")
            kind = panel["type"]
            inner = {"timeseries": (0.85, 0.4, 0.25, 0.85), "heatmap": (0.6, 0.4, 0.25, 0.4), "table": (0.12, 0.4, 0.12, 0.1),
                     "stat": (0.1, 0.35, 0.1, 0.05), "bargauge": (1.6, 0.4, 0.2, 0.15), "gauge": (0.9, 0.45, 0.2, 0.1)}[kind]
            axes = figure.add_axes(((left + inner[0]) / width, 1 - (top + tall - inner[3]) / height,
                                    (wide - inner[0] - inner[2]) / width, (tall - inner[1] - inner[3]) / height))
            axes.set_facecolor(CARD)
            defaults = panel["fieldConfig"]["defaults"]
            getattr(self, kind)(axes, panel, defaults["unit"], defaults.get("decimals"))
        figure.savefig(path, facecolor=PAGE)
        pyplot.close(figure)


def main():
    monitor, began, ended, target = sys.argv[1:]
    painter = Painter(Prometheus(monitor), int(began), int(ended))
    for name, board in load().items():
        path = Path(target) / f"dashboard-{name}.png"
        painter.draw(board, path)
        print(path)


if __name__ == "__main__":
    main()
