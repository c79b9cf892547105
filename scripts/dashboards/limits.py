"""*Limits and budgets*: who comes near what he is held to, who was refused, who was told, and whether limits work as they should.

Budgets are exported by every replica alike: `max` over replicas. Refusals are counted where they happen: `sum`.
"""

from grafana import GREEN, ORANGE, RED, TENANT, YELLOW, Board, bars, series, stat, steps, table
from promql import T, grown, new, or_zero, rate, same

BY = "tenant, budget, period"
USED = steps(GREEN, (0.8, YELLOW), (1, RED))


def budget(state):
    return same("budget_usd", f'{T},state="{state}"', BY)


def a_minute(metric, labels, limit):
    """How much of a limit a tenant uses."""
    used = f"sum by (tenant) (rate(remora_{metric}{{{labels}}}[$__rate_interval])) * 60"
    return f"{used} / on (tenant) {same('ratelimit_limit', f'{T},limit=' + chr(34) + limit + chr(34), 'tenant')}"


def board():
    made = Board("remora-limits", "Limits and budgets", "Who comes near a limit or a budget, who was refused, who was told, and "
                 "whether limits work as they should.", [TENANT])
    share = f"{budget('spent')} / {budget('limit')}"
    made.row(
        "Budgets",
        stat("Budgets spent", "Budgets with nothing left. Hard ones refuse what the cache cannot answer; raise the budget or wait for "
             "the next period.", "short", [(or_zero(f"count(({share}) >= 1)"), "spent")], thresholds=steps(GREEN, (1, RED))),
        stat("Budgets over 80 %", "Budgets of which 80 % or more is spent, but not all.", "short",
             [(or_zero(f"count(({share}) >= 0.8 < 1)"), "nearly")], thresholds=steps(GREEN, (1, YELLOW))),
        stat("Refused by a budget", "Requests in the range that a hard budget had no room for.", "short",
             [(or_zero(grown("budget_rejections_total", T)), "refused")], thresholds=steps(GREEN, (1, ORANGE))),
        stat("Refused by a limit", "Requests in the range that a rate limit refused. Callers see 429 and `Retry-After`.", "short",
             [(or_zero(grown("ratelimit_rejections_total", T)), "refused")], thresholds=steps(GREEN, (1, ORANGE))),
        stat("Limits kept without Redis", "Replicas that keep their share of the limits by themselves, because Redis is away. Limits are "
             "then less exact, and hard budgets closed but for `offline_share`.", "short",
             [("sum(remora_ratelimit_degraded)", "replicas")], thresholds=steps(GREEN, (1, RED))),
        stat("Alerts not delivered", "Deliveries of alerts that wait to be sent, or to be tried again. `remora alerts list` says why.",
             "short", [(same("alert_outbox_depth"), "waiting")], thresholds=steps(GREEN, (1, YELLOW), (20, RED))),
        bars("Used of each budget", "Spent as a share of the limit: yellow from 80 %, red when nothing is left.", "percentunit",
             [(f"sort_desc({share})", "{{tenant}} {{budget}}")], width=10, height=10, thresholds=USED, max=1),
        table("Budgets", "What there is, what is spent, and what is held for requests under way.", "currencyUSD",
              [budget("limit"), budget("spent"), budget("reserved"), share],
              {"tenant": "Tenant", "budget": "Budget", "period": "Period", "Value #A": "Limit", "Value #B": "Spent",
               "Value #C": "Held", "Value #D": "Used"}, width=14, height=10, units={"Used": "percentunit"}),
        series("Used over time", "Spent as a share of each budget. A line that will cross 100 % before its period ends: `remora usage` "
               "tells which key.", "percentunit", [(share, "{{tenant}} {{budget}}")], width=12, thresholds=USED, min=0),
        series("Held for requests under way", "Money held until it is known what a request costs. It falls to nothing when traffic does; "
               "if not, holds are lost and expire (`limits.hold`).", "currencyUSD", [(budget("reserved"), "{{tenant}} {{budget}}")],
               width=12),
    )
    made.row(
        "Limits",
        series("Used of requests a minute", "Requests a minute as a share of the tenant's `rpm`. At 100 % callers are refused.",
               "percentunit", [(a_minute("requests_total", T + ',outcome!~"refused|audit"', "rpm"), "{{tenant}}")],
               thresholds=USED, min=0),
        series("Used of tokens a minute", "Tokens a minute as a share of the tenant's `tpm`. What the cache answers does not count, unless "
               "`hits_take_tokens` is set.", "percentunit",
               [(a_minute("tokens_total", T + ',source=~"billed|estimated"', "tpm"), "{{tenant}}")], thresholds=USED, min=0),
        series("Refused by limits", "Refusals a second by tenant and limit. One tenant alone: it floods, or its limit is too low. "
               "`concurrency`: its upstream is slow.", "reqps",
               [(or_zero(rate("ratelimit_rejections_total", T, "tenant, limit")), "{{tenant}} {{limit}}")]),
        series("Refused by budgets", "Requests a second that a hard budget had no room for, by tenant.", "reqps",
               [(or_zero(rate("budget_rejections_total", T, "tenant")), "{{tenant}}")]),
        series("Holds and settlements", "Requests that hold tokens, seats or money, and ended ones whose use waits to be counted. The "
               "second should be near 0.", "short",
               [("sum(remora_limit_holds)", "holding"), ("sum(remora_limit_unsettled)", "waiting to be counted")]),
        series("Kept without Redis", "1 while a replica keeps its share of the limits by itself.", "short",
               [("remora_ratelimit_degraded", "{{instance}}")], max=1, min=0),
    )
    made.row(
        "Alerts, and whether counters are right",
        series("Alerts raised", "Alerts by kind in the last hour, each once for the whole fleet.", "short",
               [(or_zero(new("alerts_total", "", "kind", "1h")), "{{kind}}")], stack=True),
        bars("Shares of budgets crossed", "Alerts in the range by tenant and the share that was crossed, in percent.", "short",
             [(or_zero(new("budget_alerts_total", T, "tenant, threshold", "$__range")), "{{tenant}} {{threshold}} %")]),
        series("Deliveries", "Alerts delivered, and tries that failed, a second, by channel.", "ops",
               [(rate("alert_deliveries_total"), "delivered"),
                (or_zero(rate("alert_delivery_failures_total", "", "channel")), "failed {{channel}}")]),
        series("Counter above ledger", "By how much each budget's counter differs from the ledger, which is right. It is mended within "
               "`limits.reconcile`; more than 0.1 % for minutes is an alert.", "currencyUSD",
               [(f"max by ({BY}) (remora_budget_drift_usd{{{T}}})", "{{tenant}} {{budget}}")]),
        series("Calls of Redis for limits", "Calls a second by kind. A miss asks once and is settled once in the background; a hit asks only now and then, for a lease of requests. None while `redis.url` is empty.", "ops", [(or_zero(rate("limit_redis_calls_total", "", "kind")),
                                                                         "{{kind}}")]),
        stat("Settlements given up", "Ended requests whose use could not be counted and was left to be found in the ledger. Anything but 0: "
             "Redis or PostgreSQL was away for long.", "short", [(or_zero(grown("limit_unsettled_dropped_total")), "given up")],
             width=8, height=8, thresholds=steps(GREEN, (1, RED))),
    )
    return made
