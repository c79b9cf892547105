"""The committed dashboards, their queries as Grafana would send them, and Prometheus."""

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DASHBOARDS = ROOT / "dashboards"
NAMES = ("cost", "cache", "limits", "service")


def load():
    """Name and JSON of each dashboard."""
    return {name: json.loads((DASHBOARDS / f"{name}.json").read_text(encoding="utf-8")) for name in NAMES}


def panels(board):
    """Panels that ask something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def fill(expr, span, rate, chosen=None):
    """An expression as Grafana sends it. `span`: seconds of the chosen range; `rate`: seconds of `$__rate_interval`; `chosen`: a
    value of template variables by name, all of them otherwise."""
    words = {"__range": f"{span}s", "__rate_interval": f"{rate}s", "__interval": "1s",
             "tenant": ".*", "model": ".*", "instance": ".*", **(chosen or {})}

    def word(found):
        name = found.group(1) or found.group(2)
        if name not in words:
            raise KeyError(f"${name} is no variable")
        return words[name]

    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", word, expr)


class Prometheus:
    """The HTTP API of a Prometheus."""

    def __init__(self, url):
        self.url = url

    def get(self, path, **asked):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(asked, doseq=True)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error).get("error", str(error))) from None

    def instant(self, expr, at):
        """Labels and value of each series."""
        data = self.get("query", query=expr, time=at)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in data["result"]]

    def range(self, expr, start, end, step):
        """Labels and points of each series."""
        data = self.get("query_range", query=expr, start=start, end=end, step=step)
        return [(each["metric"], [(at, float(value)) for at, value in each["values"]]) for each in data["result"]]

    def labels(self, metric, label):
        """What `label_values(metric, label)` gives."""
        return self.get(f"label/{label}/values", **{"match[]": metric})


def is_number(value):
    return not math.isnan(value) and not math.isinf(value)
