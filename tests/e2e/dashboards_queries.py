#!/usr/bin/env python3
"""Every query of every panel, template variable and rule, asked of a Prometheus that has scraped the running program.

    dashboards_queries.py PROMETHEUS BEGAN ENDED       seconds since 1970 between which there was traffic

None may be in error, none may be empty. A panel that has nothing to show when all is well must say 0 by itself; so that such a 0 hides
no wrong name, every series that is named must have been scraped, or be one of UNSEEN.
"""

import re
import sys

from dashboards_lib import ROOT, Prometheus, fill, is_number, load, panels

SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(=~|=|!=|!~)\s*"([^"]*)"')
NAME = re.compile(r"\b((?:remora|process)[_:]\w[\w:]*)")
STEP = 1
# Seconds that Grafana puts for `$__rate_interval` where a point is a few scrapes wide.
RATE = 10
# Series that need not be there after a short run, and why.
UNSEEN = {
    "remora_budget_alerts_total": "a busy machine may not get as far as half of a budget",
    "remora_cache_stage_changes_total": "the error budget may find nothing to change",
    "remora_embedding_failures_total": "a machine with time to spare makes every vector in time",
    "remora_trace_spans_dropped_total": "no span is lost while the collector takes them all",
}


class Check:
    def __init__(self, monitor, began, ended):
        self.monitor, self.began, self.ended, self.span = monitor, began, ended, ended - began
        self.faults, self.asked, self.named = [], 0, set()
        self.known = set(monitor.get("label/__name__/values"))
        # What the program can export; that the list is complete is what another test says.
        self.listed = set(NAME.findall((ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")))

    def fault(self, where, what):
        self.faults.append(f"{where}: {what}")

    def name(self, where, name, expr):
        """A metric has been scraped, or may be missing."""
        self.named.add(name)
        if name not in self.known and name not in UNSEEN:
            self.fault(where, f"{name} was never seen: {expr}")

    def unseen(self):
        """What may be missing is exported and asked for."""
        for name in UNSEEN:
            if name not in self.named & self.listed:
                self.fault("UNSEEN", f"{name} is in no query, or not exported")

    def ask(self, where, expr, instant):
        """Series and their numbers, or a fault."""
        self.asked += 1
        try:
            if instant:
                return [(labels, [value]) for labels, value in self.monitor.instant(expr, self.ended)]
            return [(labels, [value for _, value in points])
                    for labels, points in self.monitor.range(expr, self.began, self.ended, STEP)]
        except ValueError as error:
            self.fault(where, f"is in error: {error}: {expr}")
            return None

    def names(self, where, expr):
        """Every metric has been scraped, and every value of a label that is asked for by name has been seen."""
        for name in NAME.findall(expr):
            self.name(where, name, expr)
        for name, matchers in SELECTOR.findall(expr):
            for label, operator, values in MATCHER.findall(matchers):
                if values == ".*" or name not in self.known:
                    continue
                seen = set(self.monitor.labels(name, label))
                if not seen:
                    self.fault(where, f"{name} has no label {label}: {expr}")
                for value in values.split("|") if "~" in operator else [values]:
                    if value not in seen:
                        self.fault(where, f"{name} never had {label}={value!r}, only {sorted(seen)}: {expr}")

    def target(self, where, panel, target, labels_of_columns):
        expr = fill(target["expr"], self.span, RATE)
        self.names(where, expr)
        for instant in (True, False):
            found = self.ask(where, expr, instant)
            if found is None:
                return
            if not any(is_number(value) for _, values in found for value in values):
                self.fault(where, f"is empty ({'instant' if instant else 'range'}): {expr}")
            if instant != target["instant"]:
                continue
            wanted = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"])) | labels_of_columns
            # A zero that stands for "nothing yet" has no labels.
            for labels, _ in found:
                if labels and not wanted <= set(labels):
                    self.fault(where, f"shows {sorted(wanted)}, but a series has {sorted(labels)}: {expr}")
        for chosen in ({"tenant": "acme", "model": "gpt-4o"}, {"tenant": "acme|globex", "model": "gpt-4o|o4-mini"}):
            self.ask(where, fill(target["expr"], self.span, RATE, chosen), target["instant"])

    def board(self, name, board):
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
                if not self.monitor.labels(metric, label):
                    self.fault(f"{name}, variable {variable['name']}", f"{metric} has no label {label}")
        for panel in panels(board):
            columns = set()
            for change in panel.get("transformations", []):
                if change["id"] == "organize":
                    columns = {key for key in change["options"]["renameByName"] if not key.startswith("Value")}
            for target in panel["targets"]:
                self.target(f"{name}, panel {panel['title']}, query {target['refId']}", panel, target, columns)

    def rules(self):
        groups = self.monitor.get("rules")["groups"]
        for group in groups:
            for rule in group["rules"]:
                where = f"rule {rule['name']}"
                self.asked += 1
                if rule["health"] != "ok":
                    self.fault(where, f"is {rule['health']}: {rule.get('lastError', 'never evaluated')}")
                for name in NAME.findall(rule["query"]):
                    self.name(where, name, rule["query"])
                if rule["type"] == "recording" and rule["name"] not in self.known:
                    self.fault(where, "has recorded nothing")
        if not groups:
            self.fault("rules", "Prometheus has none")


def main():
    monitor = Prometheus(sys.argv[1])
    check = Check(monitor, int(sys.argv[2]), int(sys.argv[3]))
    for name, board in load().items():
        check.board(name, board)
    check.rules()
    check.unseen()
    for fault in check.faults:
        print(fault, file=sys.stderr)
    print(f"{check.asked} questions, {len(check.faults)} faults")
    return bool(check.faults)


if __name__ == "__main__":
    sys.exit(main())
