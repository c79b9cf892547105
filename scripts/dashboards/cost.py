"""*Cost*: what LLMs cost, who spends it, what the cache saved, and whether the target is met.

Money of this month comes from gauges that every replica computes from the same roll-ups of the ledger: `max`, never `sum`, over
replicas. Money of the chosen range comes from counters of each replica: `sum`. What was saved net can fall, so it is computed
from what was saved gross and what the cache cost, which both only rise.
"""

from grafana import GREEN, MODEL, ORANGE, RED, TENANT, YELLOW, Board, bars, gauge, series, stat, steps, table
from promql import SENT, T, TM, grown, or_zero, rate, same, share, summed

USD = "currencyUSD"
SPEND = summed(same("month_spend_usd", T, "tenant"))
SAVED = {basis: summed(same("month_saved_usd", f'{T},basis="{basis}"', "tenant")) for basis in ("gross", "net")}
TARGET = same("savings_target_ratio")
MET = steps(RED, (0.15, ORANGE), (0.3, GREEN))


# The series has no label for the tenant.
MODELS = 'model=~"$model"'


def per_hour(expr):
    return f"{expr} * 3600"


def saved(of):
    """Net and what everything would have cost, from `rate` or `grown`."""
    gross = or_zero(of("saved_usd_total", TM + ',basis="gross"'))
    cache = or_zero(of("cost_usd_total", TM + ',kind!="completion"'))
    answers = or_zero(of("cost_usd_total", TM + ',kind="completion"'))
    return f"({gross} - {cache})", f"({answers} + {gross})"


def ratio(of):
    net, without = saved(of)
    return f"{net} / ({without} > 0)"


def board():
    made = Board("remora-cost", "Cost", "What LLMs cost, who spends it, what the cache saved and whether the target is met.",
                 [TENANT, MODEL])
    made.row(
        "This month (UTC), from the ledger",
        stat("Spend this month", """Answers, embeddings and checks since the first of the month in UTC, summed from the ledger.
             Differs from the provider's bill? `remora usage` breaks it down to single requests.""", USD, [(SPEND, "spend")]),
        stat("Forecast to month end", """What the month will cost if it goes on as it has; see docs/usage.md for the rule. Compare
             it with the budgets in *Limits and budgets*.""", USD,
             [(summed(same("month_forecast_usd", T, "tenant")), "forecast")]),
        stat("Saved gross this month", """What upstreams would have been paid for answers that came from the cache, at today's
             prices and with the provider's own discount for cached prompts.""", USD, [(SAVED["gross"], "gross")],
             thresholds=steps(GREEN)),
        stat("Saved net this month", """Saved gross, less what embeddings and checks of the cache cost. Negative: the cache costs
             more than it saves; see *Cache* for why it does not hit.""", USD, [(SAVED["net"], "net")],
             thresholds=steps(RED, (0, GREEN))),
        gauge("Savings against the target", """Saved net as a share of what the month would have cost without Remora, beside the
              target (`[savings] target`). Below the target: look at the hit rate and its reasons in *Cache*.""", "percentunit",
              [(f"{SAVED['net']} / ({SPEND} + {SAVED['net']} > 0)", "net"), (TARGET, "target")], width=8, thresholds=MET,
              min=0, max=1),
    )
    made.row(
        "In the chosen range, from counters",
        stat("Spend in the range", """Answers, embeddings and checks in the chosen range. Counters lose what was counted between a
             scrape and a kill; the ledger does not.""", USD, [(grown("cost_usd_total", TM), "spend")]),
        stat("Saved net in the range", "Saved gross less embeddings and checks, in the chosen range.", USD,
             [(saved(grown)[0], "net")], thresholds=steps(RED, (0, GREEN))),
        stat("Savings ratio in the range", """Saved net as a share of what the range would have cost without Remora. Red below 15 %,
             green from 30 %.""", "percentunit", [(ratio(grown), "saved")], thresholds=MET),
        stat("Cost of a thousand requests", """Spend in the range by thousand requests, hits included and audits of hits not: it falls as
             the cache gets better, whatever the traffic.""", USD,
             [(f"1000 * {grown('cost_usd_total', TM)} / ({grown('requests_total', TM + SENT)} > 0)", "per 1,000")]),
        stat("Requests without a price", """Requests of all tenants in the range (the series has none) for models whose price is not
             known, to the nearest whole one: they count towards no budget and no sum on this page. Add a price (`remora prices`), or refuse them (`unknown_price`).""", "short",
             [(f"round({or_zero(grown('unpriced_requests_total', MODELS))})", "requests")], thresholds=steps(GREEN, (1, RED))),
        stat("Tokens that were estimated", """Share of the paid tokens that were counted by us because the upstream did not say how
             many it billed. Over a few percent: the sums here are less sure.""", "percentunit",
             [(share(grown("tokens_total", TM + ',source="estimated"'),
                     grown("tokens_total", TM + ',source=~"billed|estimated"')), "estimated")],
             thresholds=steps(GREEN, (0.02, YELLOW), (0.1, RED))),
        series("Spend by what it is for", """Dollars an hour: answers, embeddings of prompts for the cache, and checks of hits.""",
               USD, [(per_hour(rate("cost_usd_total", TM, "kind")), "{{kind}}")], width=12, stack=True),
        series("Saved", """Dollars an hour saved: gross, and net of what embeddings and checks cost. A gap between the two that grows
               says that the cache's own cost does.""", USD,
               [(per_hour(or_zero(rate("saved_usd_total", TM + ',basis="gross"'))), "gross"),
                (per_hour(saved(rate)[0]), "net")], width=12),
        series("Savings ratio", """Saved net as a share of what it would have cost without Remora, beside the target.""",
               "percentunit", [(ratio(rate), "saved net"), (TARGET, "target")], width=12, thresholds=steps(RED, (0.3, GREEN)),
               max=1),
        series("Tokens a second by source", """`billed` tokens were paid for, `estimated` ones too but the upstream did not say how
               many, `replayed` ones came from the cache.""", "short", [(rate("tokens_total", TM, "source"), "{{source}}")],
               width=12, stack=True),
    )
    made.row(
        "Who spends it",
        series("Spend by tenant", "Dollars an hour of each tenant. A step: ask whose deployment it was; *Limits and budgets* says what "
               "it may still spend.", USD, [(per_hour(rate("cost_usd_total", TM, "tenant")), "{{tenant}}")], width=12, stack=True),
        series("Spend by model", """Dollars an hour of each model. Only models named in `[telemetry] models` have a line of their own;
               the rest is `other`.""", USD, [(per_hour(rate("cost_usd_total", TM, "model")), "{{model}}")], width=12, stack=True),
        bars("Top spenders by key", """Of the 20 keys of all tenants that spent most this month, those of the chosen tenants; only
             these 20 have a series. `remora usage --by key` has all keys, and the requests behind the sum.""", USD, [(f"topk(20, {same('month_key_spend_usd', T, 'tenant, key')})", "{{tenant}} {{key}}")],
             height=10),
        table("Tenants this month", """Spend, forecast and saving of each tenant since the first of the month in UTC.""", USD,
              [same("month_spend_usd", T, "tenant"), same("month_forecast_usd", T, "tenant"),
               same("month_saved_usd", T + ',basis="net"', "tenant")],
              {"tenant": "Tenant", "Value #A": "Spend", "Value #B": "Forecast", "Value #C": "Saved net"}, height=10),
        bars("Models in the range", "What each model cost in the chosen range. A cheaper model for easy prompts is the other way to "
             "save.", USD, [(f"topk(20, {grown('cost_usd_total', TM, 'model')})", "{{model}}")], height=10),
        series("Tokens a second by kind", """What is paid for, by kind: uncached input, reads and writes of the provider's prompt
               cache, output, reasoning. Much `input` and no `cache_read`: prompts do not share a prefix.""", "short",
               [(rate("tokens_total", TM + ',source=~"billed|estimated"', "type"), "{{type}}")], width=12, stack=True),
        series("Requests without a price by model", "Requests a second, of all tenants (the series has none), for models whose price is not known.", "reqps",
               [(or_zero(rate("unpriced_requests_total", MODELS)), "all"),
                (rate("unpriced_requests_total", MODELS, "model"), "{{model}}")], width=12, stack=False),
    )
    return made
