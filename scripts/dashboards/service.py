"""*Service*: whether Remora answers, how fast, what it depends on, and how much of the error budget of 99.9 % is gone.

An error is a reply of class 5xx that Remora itself is to blame for (`source="remora"`); what an upstream answers is shown but does
not count. Burn rates come from recording rules (`rules.yml`), so that a week can be looked at without adding it up anew.
"""

from grafana import GREEN, INSTANCE, ORANGE, RED, TENANT, YELLOW, Board, series, stat, steps, table
from promql import SENT, T, grown, or_zero, quantile, quantiles, rate, same, share

OURS = 'class="5xx",source="remora"'
SLO = 0.001
I = 'instance=~"$instance"'
BURN = steps(GREEN, (1, YELLOW), (6, ORANGE), (14.4, RED))


def burn(window):
    return f"remora:reply_errors:ratio_rate{window} / {SLO}"


def each(metric, labels="", how="max"):
    """A gauge of each replica."""
    return f"{how} by (instance) (remora_{metric}{{{I}{labels}}})"


def board():
    made = Board("remora-service", "Service", "Whether Remora answers, how fast, what it depends on, and how much of the error budget "
                 "is gone.", [TENANT, INSTANCE], since="now-6h")
    made.row(
        "Objective: 99.9 % of replies without a fault of Remora's own",
        stat("Without a fault", "Share of the replies in the range that are not a 5xx of Remora's own making. What upstreams answer does "
             "not count.", "percentunit",
             [(f"1 - {share(grown('replies_total', OURS), grown('replies_total'))}", "good")], decimals=3,
             thresholds=steps(RED, (0.999, GREEN))),
        stat("Error budget left", "Of the 0.1 % of replies in the range that may fail, how many have not. Below 0 the objective is "
             "missed.", "percentunit",
             [(f"1 - {share(grown('replies_total', OURS), grown('replies_total'))} / {SLO}", "left")], decimals=1,
             thresholds=steps(RED, (0, YELLOW), (0.5, GREEN))),
        stat("Burn rate of the last hour", "How many times faster than allowed errors come: at 1 the budget lasts exactly 30 days. From 14.4 "
             "somebody is woken (`RemoraErrorBudgetBurnsFast`).", "none", [(burn("1h"), "burn")], decimals=2, thresholds=BURN),
        stat("Requests a second", "All requests, answered or refused; audits of hits are none.", "reqps", [(rate("requests_total", T + SENT), "requests")]),
        stat("Added by Remora, p99", "99th percentile of the time that Remora itself adds to a request, over all outcomes.", "s",
             [(quantile(0.99, "overhead_seconds"), "p99")], thresholds=steps(GREEN, (0.01, YELLOW), (0.05, RED))),
        stat("Panics", "Panics caught in the range. Anything but 0 is a defect: report it with the log line.", "short",
             [(or_zero(grown("panics_total")), "panics")], thresholds=steps(GREEN, (1, RED))),
        series("Burn rate", "Errors as a multiple of what the objective allows, over windows of 5 minutes to 3 days. A short window alone is "
               "a blip, a short and a long one together an alert.", "none",
               [(burn(window), window) for window in ("5m", "30m", "1h", "6h", "3d")], width=12, thresholds=BURN, min=0),
        series("Replies by class and who made them", "Replies a second: `remora` made it itself, `cache` had it, `upstream` answered.",
               "reqps", [(rate("replies_total", "", "class, source"), "{{class}} {{source}}")], width=12, stack=True),
    )
    made.row(
        "Requests",
        series("Requests by outcome", "Requests a second. `failed`: upstream failed; `refused`: by Remora, see *Limits and budgets*; "
               "`cancelled`: the client left; `audit`: no request, a hit is asked again.", "reqps", [(rate("requests_total", T, "outcome"), "{{outcome}}")], stack=True),
        series("Share that failed", "Requests that failed because of an upstream, that clients gave up, or that were refused, as a share "
               "of all.", "percentunit",
               [(f"{share(rate('requests_total', T + ',outcome=' + chr(34) + what + chr(34)), rate('requests_total', T + SENT))}", what)
                for what in ("failed", "cancelled", "refused")], min=0),
        series("Requests by wire format", "Requests a second by dialect; `other` is passed through.", "reqps",
               [(rate("requests_total", T, "dialect"), "{{dialect}}")], stack=True),
        series("Added by Remora", "Time that Remora adds to a request: percentiles over all outcomes.", "s", quantiles("overhead_seconds")),
        series("Added by Remora, by outcome", "99th percentile by outcome. Only `miss` high: embedding or search; `hit` too: the store.", "s",
               [(quantile(0.99, "overhead_seconds", "", "outcome"), "{{outcome}}")]),
        series("Time to the first byte", "Percentiles of the time until the answer's first byte, by outcome: median and 99th of hits and "
               "misses.", "s",
               [(quantile(q, "ttft_seconds", f'outcome="{what}"'), f"{what} p{q * 100:.0f}")
                for what in ("hit", "miss") for q in (0.5, 0.99)]),
        series("Whole requests", "Time of whole requests, streams included: percentiles.", "s", quantiles("request_seconds")),
        series("Connections", "Open client connections of each replica. At `server.limits.connections` new ones wait.", "short",
               [(each("connections"), "{{instance}}")]),
        series("Joined another request", "Requests a second that were answered together with an equal one in flight.", "reqps",
               [(rate("coalesced_requests_total"), "coalesced")]),
    )
    made.row(
        "Upstreams and dependencies",
        series("Upstream by status", "Calls a second by class of status; `error`: no answer at all. Many 4xx: a wrong key or too high a "
               "rate; 5xx: see the provider's status page.", "reqps",
               [(rate("upstream_requests_total", "", "upstream, status_class"), "{{upstream}} {{status_class}}")], stack=True),
        series("Upstream until the head of its answer", "Median and 99th percentile of each upstream.", "s",
               [(quantile(q, "upstream_seconds", "", "upstream"), f"{{{{upstream}}}} p{q * 100:.0f}") for q in (0.5, 0.99)]),
        series("Broken upstreams", "1 from five calls in a row without an answer, or with a 5xx, until one succeeds.", "bool_yes_no",
               [(same("upstream_breaker", "", "upstream"), "{{upstream}}")], max=1, min=0),
        series("Upstream calls given up", "A second, because every client had left: paid for, perhaps, and used by nobody.", "reqps",
               [(rate("upstream_cancelled_total"), "given up")]),
        series("Dependencies", "1 if it works, the worst of all replicas. Nothing here makes a request fail by itself; see *Degraded* for "
               "what is missing.", "bool_on_off", [("min by (name) (remora_dependency_up)", "{{name}}")], max=1, min=0),
        series("Degraded", "1 while a function works without what it depends on: `ledger` (rows wait in the journal), `redis`, "
               "`replicas` (changes of others are not seen).", "bool_yes_no",
               [(same("degraded", "", "function"), "{{function}}"), (same("ratelimit_degraded"), "limits")], max=1, min=0),
        series("Redis", "Operations a second by result, and writes that wait. `timeout`: its deadline (`redis.deadline`) is too short, or "
               "it is far away.", "ops",
               [(or_zero(rate("redis_operations_total", "", "result")), "{{result}}"), ("sum(remora_redis_queue_depth)", "waiting")]),
        series("Spans of traces", "Spans that the collector has taken, and those dropped because it was away or too slow, a second. None "
               "while `telemetry.otlp` is empty.", "ops",
               [(or_zero(rate("trace_spans_exported_total")), "exported"), (or_zero(rate("trace_spans_dropped_total")), "dropped")]),
        series("Leases", "One replica asks upstream, others wait: a second, by result.", "ops",
               [(or_zero(rate("redis_leases_total", "", "result")), "{{result}}")]),
        series("Behind other replicas", "Time since each replica last knew all that the others had changed. Beyond `store.blind` it serves "
               "no hits.", "s", [(each("index_lag_seconds"), "{{instance}}")]),
        series("Changes of other replicas", "Changes taken over a second, and those that wait.", "short",
               [(rate("replica_changes_total"), "taken over"), ("sum(remora_replica_changes_behind)", "waiting")]),
    )
    made.row(
        "Ledger and store",
        series("Ledger rows written", "A second. It follows the requests; if it does not, rows wait in the journal.", "ops", [(rate("ledger_rows_total"), "rows")]),
        series("Age of the oldest row not yet written", "Of each replica. Over a minute is an alert: the store is slow or away; nothing is "
               "lost as long as the journal has room.", "s", [(each("ledger_lag_seconds"), "{{instance}}")],
               thresholds=steps(GREEN, (60, RED))),
        series("Rows waiting", "In memory, and in the journal until the store can be reached.", "short",
               [("sum(remora_ledger_queue_depth)", "memory"), ("sum(remora_ledger_spooled_rows)", "journal")]),
        series("Journal", "Bytes of the journal of each replica; at `store.journal_bytes` rows wait in memory instead.", "bytes",
               [(each("ledger_spool_bytes"), "{{instance}}")]),
        series("Dropped, and faults of the journal", "Rows, entries and decisions for which there was no room, and faults of the journal, a "
               "second. `rows`: requests without a ledger row.", "ops",
               [(or_zero(rate("store_dropped_total", "", "kind")), "{{kind}}"),
                (or_zero(rate("ledger_journal_faults_total", "", "kind")), "journal {{kind}}")]),
        table("Tasks", "Time since each background task last succeeded, in the replica where it is longest ago.", "s",
              ["time() - min by (task) (remora_task_last_success_seconds > 0)"], {"task": "Task", "Value #A": "Last success"}),
    )
    made.row(
        "Processes",
        series("CPU", "Cores used by each replica. Near the cores of its machine: add a replica.", "short", [(f"rate(process_cpu_seconds_total{{{I}}}[$__rate_interval])",
                                                                "{{instance}}")]),
        series("Memory", "Resident memory of each replica.", "bytes", [(f"process_resident_memory_bytes{{{I}}}", "{{instance}}")]),
        series("Open files", "File descriptors of each replica, and the least limit among them. Each connection needs one or two.", "short",
               [(f"process_open_fds{{{I}}}", "{{instance}}"), (f"min(process_max_fds{{{I}}})", "limit")]),
        table("Replicas", "Version and running time of each replica.", "s",
              [f"max by (instance, version) (remora_build_info{{{I}}}) * on (instance) group_left () (time() - "
               f"max by (instance) (process_start_time_seconds{{{I}}}))"],
              {"instance": "Replica", "version": "Version", "Value #A": "Running for"}),
    )
    return made
