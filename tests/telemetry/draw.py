"""draw.py DATA PICTURE: draws a dashboard from the recorded answers to its queries, in the look of Grafana.

Every panel is drawn at its place, with its title, unit, thresholds and legend. Prints how many there are. A panel
without a value is an error, unless DATA says that it is empty by design.
"""

import json
import math
import re
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, MultipleLocator
from PIL import Image

from units import clock, shown

WIDTH, UNIT, GAP, TOP, DPI = 1500, 34, 8, 58, 100
CANVAS, PANEL, BORDER, TEXT, FAINT, GRID = "#111217", "#181b1f", "#2c2f36", "#d5d5e0", "#9a9aab", "#2a2d33"
NAMED = {"green": "#73BF69", "orange": "#FF9830", "red": "#F2495C", "blue": "#5794F2", "purple": "#B877D9"}
CLASSIC = ["#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#C0D8FF", "#37872D", "#FADE2A",
           "#447EBC", "#C15C17", "#E0B400", "#CA95E5", "#96D98D", "#FFB357"]
HEAT = LinearSegmentedColormap.from_list("heat", ["#3b1f0b", "#8a3d0c", "#e05d10", "#fd9a4b", "#fee2c3"])


class Picture:
    """A figure whose coordinates are pixels from its upper left corner."""

    def __init__(self, height):
        self.height = height
        self.figure = pyplot.figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor=CANVAS)
        self.renderer = self.figure.canvas.get_renderer()

    def box(self, x, y, w, h, face=PANEL, edge=BORDER):
        at = (x / WIDTH, 1 - (y + h) / self.height)
        style = FancyBboxPatch(at, w / WIDTH, h / self.height, boxstyle="square,pad=0", fc=face, ec=edge, lw=0.8,
                               transform=self.figure.transFigure, zorder=-1)
        self.figure.add_artist(style)

    def text(self, x, y, text, size=12, color=TEXT, **more):
        return self.figure.text(x / WIDTH, 1 - y / self.height, text, color=color, fontsize=size * 72 / DPI, **more)

    def width(self, text):
        return text.get_window_extent(self.renderer).width

    def fitting(self, x, y, text, room, **more):
        """A text of at most so many pixels."""
        drawn = self.text(x, y, text, **more)
        while self.width(drawn) > room and len(text) > 4:
            text = text[:-2]
            drawn.set_text(text + "…")
        return drawn

    def axes(self, x, y, w, h):
        place = (x / WIDTH, 1 - (y + h) / self.height, w / WIDTH, h / self.height)
        axes = self.figure.add_axes(place, facecolor="none")
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(colors=FAINT, labelsize=11 * 72 / DPI, length=0, pad=4)
        return axes


class Panel:
    def __init__(self, picture, data, panel):
        self.picture, self.data, self.panel = picture, data, panel
        place, cell = panel["gridPos"], (WIDTH - GAP) / 24
        self.x, self.y = GAP + place["x"] * cell, TOP + place["y"] * UNIT
        self.w, self.h = place["w"] * cell - GAP, place["h"] * UNIT - GAP
        self.fields = panel["fieldConfig"]["defaults"]
        self.series = [one for target in panel["targets"] for one in self.answers(target)]

    def answers(self, target):
        """Name and points of each series that has a number."""
        for one in self.data["answers"][str(self.panel["id"])][target["refId"]]:
            name = re.sub(r"{{(\w+)}}", lambda found: one["metric"].get(found[1], ""), target["legendFormat"])
            points = [(float(at), float(value)) for at, value in one["values"]]
            if any(math.isfinite(value) for _, value in points):
                yield name, points

    def threshold(self, value):
        """The colour of the last step that the value reaches."""
        color = "green"
        for step in self.fields["thresholds"]["steps"]:
            if step["value"] is None or value >= step["value"]:
                color = step["color"]
        return NAMED[color]

    def frame(self):
        self.picture.box(self.x, self.y, self.w, self.h)
        self.picture.fitting(self.x + 10, self.y + 20, self.panel["title"], self.w - 20, size=13, weight="medium")
        if not self.series:
            middle = (self.x + self.w / 2, self.y + self.h / 2)
            self.picture.text(*middle, "No data", color=FAINT, ha="center", va="center")

    def draw(self):
        self.frame()
        if self.series:
            {"stat": self.stat, "timeseries": self.lines, "heatmap": self.heatmap}[self.panel["type"]]()

    def stat(self):
        _, points = self.series[0]
        value = [value for _, value in points if math.isfinite(value)][-1]
        color = self.threshold(value)
        axes = self.picture.axes(self.x + 1, self.y + self.h * 0.62, self.w - 2, self.h * 0.38 - 1)
        axes.axis("off")
        axes.set_xlim(self.data["from"], self.data["to"])
        for at, values in pieces(points, self.data["step"]):
            axes.fill_between(at, values, min(0, *values), color=color, alpha=0.2, lw=0)
            axes.plot(at, values, color=color, lw=1)
        axes.set_ylim(0, max(value for _, value in points if math.isfinite(value)) * 1.05 or 1)
        middle = (self.x + self.w / 2, self.y + self.h * 0.52)
        self.picture.text(*middle, shown(value, self.fields["unit"]), size=30, color=color, ha="center", va="center",
                          weight="medium")

    def legend(self, entries):
        """Below the panel, line by line; returns its height."""
        places, x, line = [], 0, 0
        for color, name in entries:
            text = self.picture.fitting(0, 0, name, self.w - 50, size=11)
            needed = self.picture.width(text) + 34
            if x and x + needed > self.w - 16:
                x, line = 0, line + 1
            if line > 2:
                text.remove()
                break
            places.append((x, line, color, text))
            x += needed
        left = len(entries) - len(places)
        height = (places[-1][1] + 1) * 17 + 8
        for x, line, color, text in places:
            at = (self.x + 12 + x, self.y + self.h - height + line * 17 + 10)
            self.picture.box(at[0], at[1] - 4, 13, 2.5, face=color, edge=color)
            text.set_position(((at[0] + 18) / WIDTH, 1 - (at[1] + 1) / self.picture.height))
            text.set(color=TEXT, va="center_baseline")
        if left:
            self.picture.text(self.x + self.w - 8, self.y + 20, f"{left} more", size=10, color=FAINT, ha="right")
        return height

    def time_axes(self, below):
        axes = self.picture.axes(self.x + 70, self.y + 34, self.w - 86, self.h - 34 - 24 - below)
        first, last = self.data["from"], self.data["to"]
        axes.set_xlim(first, last)
        step = next(one for one in (5, 10, 15, 30, 60, 120, 300, 600) if (last - first) / one <= 7)
        axes.xaxis.set_major_locator(FixedLocator(range(-(-first // step) * step, last, step)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: clock(at, step < 60)))
        return axes

    def ticks(self, highest):
        """At round values, of seconds at whole minutes and hours."""
        if self.fields["unit"] == "s" and highest >= 120:
            return MultipleLocator(next(one for one in (30, 60, 120, 300, 600, 1800, 3600, 21600, 86400 * 7) if highest / one <= 5))
        return MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])

    def make_room(self, axes):
        """For the labels at the left, which can be long."""
        lower, upper = sorted(axes.get_ylim())
        ticks = [tick for tick in axes.yaxis.get_major_locator().tick_values(lower, upper) if lower <= tick <= upper]
        texts = [self.picture.text(0, 0, axes.yaxis.get_major_formatter()(tick, 0), size=11) for tick in ticks]
        left = self.x + 14 + max((self.picture.width(text) for text in texts), default=0)
        for text in texts:
            text.remove()
        place = axes.get_position()
        axes.set_position((left / WIDTH, place.y0, place.x1 - left / WIDTH, place.height))

    def marks(self, axes):
        for annotation, answer in zip(self.data["board"]["annotations"]["list"], self.data["marks"]):
            color = NAMED[annotation["iconColor"]]
            for one in answer:
                for at, _ in pieces([(float(at), 1.0) for at, _ in one["values"]], self.data["step"]):
                    axes.axvline(at[0], color=color, lw=1, ls=(0, (4, 3)), alpha=0.9, zorder=1)
                    axes.axvspan(at[0], at[-1], color=color, alpha=0.05, lw=0, zorder=0)

    def lines(self):
        custom = self.fields["custom"]
        stacked = custom["stacking"]["mode"] == "normal"
        # A stack is told by its names; of two series of one name the later goes on with the colour of the first.
        names = list(dict.fromkeys(name for name, _ in self.series))
        colors = {name: CLASSIC[index % len(CLASSIC)] for index, name in enumerate(names)}
        below = self.legend([(colors[name], name) for name in names])
        axes = self.time_axes(below)
        axes.grid(True, color=GRID, lw=0.7)
        axes.set_axisbelow(True)
        floor, top = {}, 0
        for name, points in self.series:
            for at, values in pieces(points, self.data["step"]):
                bottom = [floor.get(one, 0) for one in at] if stacked else [0] * len(at)
                values = [value + base for value, base in zip(values, bottom)]
                top = max(top, *values)
                axes.fill_between(at, values, bottom, color=colors[name], alpha=custom["fillOpacity"] / 100, lw=0)
                style = {"marker": "."} if len(at) == 1 else {}
                axes.plot(at, values, color=colors[name], lw=1.3, solid_joinstyle="round", **style)
                floor.update(zip(at, values))
        highest = self.fields.get("max", top * 1.08 or 1)
        axes.set_ylim(self.fields.get("min", 0), highest * (1.02 if "max" in self.fields else 1))
        axes.yaxis.set_major_locator(self.ticks(highest))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, self.fields["unit"])))
        if custom["thresholdsStyle"]["mode"] == "line":
            for step in self.fields["thresholds"]["steps"]:
                if step["value"] is not None and step["value"] <= highest:
                    axes.axhline(step["value"], color=NAMED[step["color"]], lw=1.2, alpha=0.8)
        self.make_room(axes)
        self.marks(axes)

    def heatmap(self):
        buckets = sorted((float(name), dict(points)) for name, points in self.series)
        axes = self.time_axes(0)
        step, counts = self.data["step"], []
        below = {}
        for row, (_, points) in enumerate(buckets):
            for at, value in points.items():
                count = value - below.get(at, 0)
                if math.isfinite(count) and count > 1e-9:
                    counts.append((at, row, count))
            below = points
        most = max((count for *_, count in counts), default=1)
        norm = PowerNorm(0.5, 0, most)
        for at, row, count in counts:
            axes.add_patch(pyplot.Rectangle((at - step, row - 0.46), step * 1.02, 0.92, color=HEAT(norm(count)), lw=0))
        axes.set_ylim(-0.5, len(buckets) - 0.5)
        shown_rows = range(0, len(buckets), max(1, len(buckets) // 8))
        axes.yaxis.set_major_locator(FixedLocator(shown_rows))
        unit = self.fields["unit"]
        axes.yaxis.set_major_formatter(FuncFormatter(lambda row, _: shown(buckets[int(row)][0], unit)))
        axes.grid(True, axis="y", color=GRID, lw=0.5)
        axes.set_axisbelow(True)
        self.make_room(axes)
        self.marks(axes)


def pieces(points, step):
    """Times and values of each unbroken part of a line."""
    at, values = [], []
    for time, value in points:
        if at and (not math.isfinite(value) or time - at[-1] > step * 1.5):
            yield at, values
            at, values = [], []
        if math.isfinite(value):
            at, values = at + [time], values + [value]
    if at:
        yield at, values


def head(picture, data):
    picture.text(GAP + 4, 26, data["board"]["title"], size=18, weight="medium")
    span = f"{clock(data['from'])} to {clock(data['to'])} UTC"
    picture.text(WIDTH - GAP - 4, 26, span, size=12, color=FAINT, ha="right")
    chosen = [f"{name} = {value}" for name, value in data["chosen"].items() if value]
    legend = [("●", NAMED[one["iconColor"]], one["name"]) for one in data["board"]["annotations"]["list"]]
    x = GAP + 4
    for mark, color, text in [("", TEXT, "    ".join(chosen))] + legend:
        if mark:
            picture.text(x, 47, "┆", size=13, color=color, weight="bold")
            x += 12
        x += picture.width(picture.text(x, 47, text, size=12, color=FAINT)) + 22


def flatten(path):
    """To a palette, which takes a third of the size; the colours of thin lines must not go in it."""
    drawn = Image.open(path).convert("RGB")
    sample = Image.new("RGB", (drawn.width, drawn.height + 80))
    sample.paste(drawn, (0, 80))
    for index, color in enumerate([*NAMED.values(), *CLASSIC, TEXT]):
        sample.paste(color, (index * 60, 0, index * 60 + 60, 80))
    palette = sample.quantize(256, method=Image.Quantize.MEDIANCUT)
    drawn.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)


def main(data, path):
    board = data["board"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    picture = Picture(TOP + rows * UNIT + GAP)
    head(picture, data)
    empty, drawn = [], 0
    for panel in board["panels"]:
        if panel["type"] == "row":
            y = TOP + panel["gridPos"]["y"] * UNIT
            picture.text(GAP + 4, y + 20, "▾ " + panel["title"], size=14, weight="medium")
            continue
        one = Panel(picture, data, panel)
        one.draw()
        drawn += 1
        by_design = any(name.startswith(f"{board['title']}: {panel['title']} (") for name in data["empty"])
        if not one.series and not by_design:
            empty.append(panel["title"])
    if empty:
        sys.exit("no value in: " + ", ".join(empty))
    picture.figure.savefig(path, dpi=DPI, facecolor=CANVAS)
    flatten(path)
    print(drawn)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        main(json.load(file), sys.argv[2])
