#!/usr/bin/env python3
"""What can be said of the dashboards without a running program.

    dashboards_lint.py      needs the packages of dashboards.requirements.txt

The JSON goes through the types of Grafana's own SDK and must come back as it was: a member that gets lost is one that Grafana does
not know. Then the rules of Grafana's dashboard linter, and ours: each panel says what it tells, has a unit and a place of its own.
"""

import json
import re
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards_lib import fill, load, panels

UNITS = {value for name, value in vars(units).items() if not name.startswith("_") and isinstance(value, str)}
WINDOWS = re.compile(r"\[([^\]]+)\]")
# A window over which a dashboard may look whatever range is chosen: it is part of what the panel says.
FIXED = {"1h"}


def lost(before, after, path=""):
    """Members that did not come back, or came back changed."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], f"{path}/{key}")
            # Absent and empty are the same to Grafana.
            elif value not in (None, [], {}, ""):
                yield f"{path}/{key} is unknown to Grafana's schema"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after)):
            yield from lost(one, other, f"{path}/{place}")
    elif before != after:
        yield f"{path} is {before!r} and comes back as {after!r}"


def round_trip(board):
    register_default_plugins()
    read = Dashboard.from_json(json.loads(json.dumps(board)))
    return list(lost(board, json.loads(JSONEncoder(sort_keys=True).encode(read))))


def of_board(board):
    """Faults of a dashboard as a whole."""
    for key in ("uid", "title", "description", "tags", "links"):
        if not board.get(key):
            yield f"has no {key}"
    if board["schemaVersion"] < 39:
        yield "is older than Grafana 11"
    if not board["editable"]:
        yield "cannot be edited by who wants to look closer"
    variables = board["templating"]["list"]
    if not variables or (variables[0]["type"], variables[0]["query"]) != ("datasource", "prometheus"):
        yield "does not choose its data source by a variable"
    for each in variables[1:]:
        if not (each["multi"] and each["includeAll"] and each["datasource"]["uid"] == "${datasource}"):
            yield f"variable {each['name']}: must allow several values and all, from the chosen data source"
        if not any(f"${each['name']}" in target["expr"] for panel in panels(board) for target in panel["targets"]):
            yield f"variable {each['name']} changes nothing"
    ids = [panel["id"] for panel in board["panels"]]
    if len(set(ids)) != len(ids):
        yield "has two panels of one id"
    titles = [panel["title"] for panel in panels(board)]
    yield from (f"has two panels {title}" for title in {title for title in titles if titles.count(title) > 1})
    taken = {}
    for panel in board["panels"]:
        pos = panel["gridPos"]
        if pos["x"] < 0 or pos["x"] + pos["w"] > 24:
            yield f"panel {panel['title']} leaves the grid"
        for place in ((x, y) for x in range(pos["x"], pos["x"] + pos["w"]) for y in range(pos["y"], pos["y"] + pos["h"])):
            other = taken.setdefault(place, panel["title"])
            if other is not panel["title"]:
                yield f"panels {other} and {panel['title']} overlap"
                break


def of_panel(panel):
    """Faults of one panel."""
    if not panel.get("title"):
        yield "has no title"
    if len(panel.get("description", "")) < 30:
        yield "does not say what it tells"
    unit = panel["fieldConfig"]["defaults"].get("unit")
    if unit not in UNITS:
        yield f"has no unit that Grafana knows: {unit}"
    for source in [panel["datasource"], *(target["datasource"] for target in panel["targets"])]:
        if source != {"type": "prometheus", "uid": "${datasource}"}:
            yield "does not ask the chosen data source"
    references = [target["refId"] for target in panel["targets"]]
    if not references or len(set(references)) != len(references):
        yield "has no query, or two of one refId"
    for target in panel["targets"]:
        expr = target["expr"]
        fill(expr, 60, 10)
        for window in WINDOWS.findall(expr):
            # One number may tell of the whole range, or of now.
            wanted = {"$__rate_interval", "$__range"} if target["instant"] else {"$__rate_interval"}
            if window not in wanted | FIXED:
                yield f"looks over [{window}], not [$__rate_interval]: {expr}"
        for name in re.findall(r"\b(\w+_total)\b", expr):
            if not re.search(rf"(rate|increase)\({name}\b|{name}(\{{[^}}]*\}})? offset ", expr):
                yield f"shows the counter {name} since the last start, not how it grows: {expr}"
        if panel["type"] != "table" and not target["legendFormat"]:
            yield f"has no legend: {expr}"


def main():
    faults = []
    uids = set()
    for name, board in load().items():
        faults += [f"{name}: {each}" for each in round_trip(board)]
        faults += [f"{name}: {each}" for each in of_board(board)]
        for panel in panels(board):
            faults += [f"{name}, panel {panel['title']}: {each}" for each in of_panel(panel)]
        if board["uid"] in uids:
            faults.append(f"{name}: another dashboard has its uid")
        uids.add(board["uid"])
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{len(load())} dashboards, {sum(len(panels(board)) for board in load().values())} panels, "
          f"{sum(len(panel['targets']) for board in load().values() for panel in panels(board))} queries: "
          f"{len(faults)} faults")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
