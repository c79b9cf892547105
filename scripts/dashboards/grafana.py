"""Pieces of a Grafana dashboard, as plain JSON: the same shape for every panel, so that no panel lacks a unit or a description.

A panel is made by `stat`, `gauge`, `bars`, `series`, `heat` or `table`; `Board` places panels from left to right and from top to
bottom, numbers them, and fills in what all dashboards share. Nothing here knows a metric.
"""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
# Grafana 11.
SCHEMA = 39
WIDTH = 24

GREEN, YELLOW, ORANGE, RED, BLUE = "green", "yellow", "orange", "red", "blue"


def steps(base, *rest):
    """Colours from a value on: `steps(GREEN, (0.8, YELLOW), (1, RED))`."""
    return [{"color": base, "value": None}] + [{"color": color, "value": value} for value, color in rest]


def query(expr, legend="", instant=False, form="time_series"):
    """One query. `instant`: only the value at the end of the range is wanted."""
    return {"expr": expr, "legendFormat": legend, "instant": instant, "range": not instant, "format": form}


def targets(queries, instant=False, form="time_series"):
    """Queries of a panel: one expression, or pairs of expression and legend."""
    if isinstance(queries, str):
        queries = [(queries, "")]
    made = []
    for number, (expr, legend) in enumerate(queries):
        made.append({"datasource": SOURCE, "editorMode": "code", "refId": chr(ord("A") + number),
                     **query(" ".join(expr.split()), legend or "__auto", instant, form)})
    return made


def panel(kind, title, text, unit, made, width, height, thresholds=None, custom=None, options=None, **defaults):
    """Everything that a panel needs but its place."""
    return {
        "type": kind, "title": title, "description": " ".join(text.split()), "datasource": SOURCE, "targets": made,
        "gridPos": {"h": height, "w": width, "x": 0, "y": 0},
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "color": {"mode": "thresholds" if kind in ("stat", "gauge", "bargauge") else "palette-classic"},
                "thresholds": {"mode": "absolute", "steps": thresholds or steps(GREEN)},
                "custom": custom or {}, **defaults,
            },
            "overrides": [],
        },
        "options": options or {},
    }


REDUCE = {"calcs": ["lastNotNull"], "fields": "", "values": False}


def stat(title, text, unit, queries, width=4, height=4, thresholds=None, **defaults):
    """One number, or a few."""
    options = {"reduceOptions": REDUCE, "colorMode": "value", "graphMode": "none", "justifyMode": "auto",
               "orientation": "auto", "textMode": "auto"}
    return panel("stat", title, text, unit, targets(queries, instant=True), width, height,
                 thresholds or steps(BLUE), options=options, **defaults)


def gauge(title, text, unit, queries, width=4, height=4, thresholds=None, **defaults):
    """A number with a scale."""
    options = {"reduceOptions": REDUCE, "orientation": "auto", "showThresholdLabels": False, "showThresholdMarkers": True}
    return panel("gauge", title, text, unit, targets(queries, instant=True), width, height, thresholds, options=options,
                 **defaults)


def bars(title, text, unit, queries, width=8, height=8, thresholds=None, **defaults):
    """One bar for each series, by its latest value."""
    options = {"reduceOptions": REDUCE, "orientation": "horizontal", "displayMode": "basic", "valueMode": "color",
               "showUnfilled": True, "minVizWidth": 8, "minVizHeight": 16}
    return panel("bargauge", title, text, unit, targets(queries, instant=True), width, height,
                 thresholds or steps(BLUE), options=options, min=0, **defaults)


def series(title, text, unit, queries, width=8, height=8, stack=False, thresholds=None, fill=10, **defaults):
    """Lines over time, or stacked areas. Thresholds are drawn as lines."""
    custom = {"drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 40 if stack else fill,
              "showPoints": "never", "spanNulls": False, "stacking": {"mode": "normal" if stack else "none", "group": "A"},
              "thresholdsStyle": {"mode": "line" if thresholds else "off"}}
    options = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
               "tooltip": {"mode": "multi", "sort": "desc"}}
    return panel("timeseries", title, text, unit, targets(queries), width, height, thresholds, custom, options, **defaults)


def heat(title, text, unit, expr, width=8, height=8):
    """Buckets of a histogram over time; the query gives their increases by `le`."""
    options = {
        "calculate": False, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Oranges", "fill": "dark-orange",
                                                    "exponent": 0.5, "steps": 64, "reverse": False},
        "filterValues": {"le": 1e-9}, "legend": {"show": True}, "rowsFrame": {"layout": "auto"}, "showValue": "never",
        "tooltip": {"show": True, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit}, "exemplars": {"color": "rgba(255,0,255,0.7)"},
    }
    return panel("heatmap", title, text, unit, targets([(expr, "{{le}}")], form="heatmap"), width, height, options=options)


def table(title, text, unit, queries, columns, width=8, height=8, thresholds=None, units=None):
    """Rows by label, one column for each query. `columns` names what is shown: labels, then `Value #A` and so on; `units` gives
    a column a unit of its own."""
    made = targets([(expr, "") for expr in queries], instant=True, form="table")
    for target in made:
        target["legendFormat"] = ""
    shown = panel("table", title, text, unit, made, width, height, thresholds,
                  {"align": "auto", "cellOptions": {"type": "auto"}, "inspect": False},
                  {"showHeader": True, "cellHeight": "sm",
                   "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""}})
    value = "Value" if len(queries) == 1 else None
    names = {(value or key) if key == "Value #A" else key: name for key, name in columns.items()}
    shown["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {
            "excludeByName": {"Time": True},
            "indexByName": {key: place for place, key in enumerate(names)},
            "renameByName": names,
        }},
    ]
    shown["fieldConfig"]["overrides"] = [
        {"matcher": {"id": "byName", "options": name}, "properties": [{"id": "unit", "value": unit}]}
        for name, unit in (units or {}).items()]
    return shown


def values_of(name, metric, label, text):
    """A template variable with the values that a label has; several may be chosen, and all is the default."""
    ask = f"label_values({metric}, {label})"
    return {"name": name, "label": name.capitalize(), "description": text, "type": "query", "datasource": SOURCE,
            "query": {"query": ask, "refId": f"variable-{name}", "qryType": 1}, "refresh": 2, "regex": "", "sort": 1,
            "multi": True, "includeAll": True, "allValue": ".*", "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "options": [], "hide": 0, "skipUrlSync": False}


TENANT = values_of("tenant", "remora_requests_total", "tenant", "Whose requests")
MODEL = values_of("model", "remora_requests_total", "model", "Models as callers name them")
INSTANCE = values_of("instance", "remora_build_info", "instance", "Replicas")


class Board:
    """A dashboard that is filled from left to right, row by row."""

    def __init__(self, uid, title, text, variables, since="now-24h"):
        self.uid, self.title, self.text, self.variables, self.since = uid, title, " ".join(text.split()), variables, since
        self.panels, self.x, self.y, self.high = [], 0, 0, 0

    def place(self, each):
        pos = each["gridPos"]
        if self.x + pos["w"] > WIDTH:
            self.x, self.y, self.high = 0, self.y + self.high, 0
        pos["x"], pos["y"] = self.x, self.y
        self.x, self.high = self.x + pos["w"], max(self.high, pos["h"])
        self.panels.append({"id": len(self.panels) + 1, **each})

    def row(self, title, *panels):
        """A headline, and panels below it."""
        self.x, self.y, self.high = 0, self.y + self.high, 0
        self.place({"type": "row", "title": title, "collapsed": False, "panels": [],
                    "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": 0}})
        self.x, self.y, self.high = 0, self.y + 1, 0
        for each in panels:
            self.place(each)
        return self

    def json(self):
        source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "regex": "",
                  "current": {}, "options": [], "multi": False, "includeAll": False, "hide": 0, "refresh": 1,
                  "skipUrlSync": False}
        links = [{"title": "Remora", "type": "dashboards", "tags": ["remora"], "asDropdown": False, "includeVars": True,
                  "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": ""}]
        return {
            "uid": self.uid, "title": self.title, "description": self.text, "tags": ["remora"], "schemaVersion": SCHEMA,
            "version": 1, "editable": True, "graphTooltip": 1, "timezone": "browser", "fiscalYearStartMonth": 0,
            "refresh": "30s", "time": {"from": self.since, "to": "now"}, "timepicker": {}, "weekStart": "",
            "annotations": {"list": []}, "links": links, "liveNow": False,
            "templating": {"list": [source, *self.variables]}, "panels": self.panels,
        }
