"""*Cache*: how often it answers, why it does not, how often it is wrong, and what it holds."""

from grafana import BLUE, GREEN, RED, TENANT, YELLOW, Board, heat, series, stat, steps
from promql import SENT, T, grown, or_zero, quantile, quantiles, rate, same, share

HIT = ',result="hit"'
SEMANTIC = HIT + ',tier="semantic"'
NOT_HIT = ',result!~"hit|coalesced"'
ALL = "cache_requests_total"
CHECKED = "cache_checked_hits_total"


def false_of(bound, of):
    """Wrong answers as a share of all: how often semantic hits are wrong, times how many answers they are."""
    wrong = same("cache_false_hit_ratio", f'{T},bound="{bound}"', "tenant")
    return f"sum({wrong} * on (tenant) {of(ALL, T + SEMANTIC, 'tenant')}) / ({of('requests_total', T + SENT)} > 0)"


def board():
    made = Board("remora-cache", "Cache", "How often the cache answers, why it does not, how often it is wrong, and what it holds.",
                 [TENANT])
    made.row(
        "In the chosen range",
        stat("Hit rate", """Share of the cacheable requests that the cache answered. Low: see the reasons below.""", "percentunit",
             [(share(grown(ALL, T + HIT), grown(ALL, T)), "hits")], thresholds=steps(RED, (0.1, YELLOW), (0.3, GREEN))),
        stat("Hits by tier", "Share of the cacheable requests answered because an equal one was stored (exact), and because one that "
             "asks the same was (semantic).", "percentunit",
             [(f"{grown(ALL, T + HIT, 'tier')} / on () group_left () ({grown(ALL, T)} > 0)", "{{tier}}")]),
        stat("Joined another request", "Requests that were answered together with an equal one in flight: paid once.", "short",
             [(or_zero(grown(ALL, T + ',result="coalesced"')), "coalesced")]),
        stat("Semantic hits that were wrong", """Of the semantic hits of the range that were asked again in the background, the share
             whose fresh answer was another one. It falls by itself: the cache serves fewer when it is wrong more often.""",
             "percentunit", [(share(grown(CHECKED, T + ',result="wrong"'), grown(CHECKED, T)), "wrong")],
             thresholds=steps(GREEN, (0.02, YELLOW), (0.05, RED))),
        stat("Worst tenant, at least", """The lower end of the 95 % interval of the tenant whose semantic hits are wrong most often: as
             many are wrong for certain.""", "percentunit", [(f'max(remora_cache_false_hit_ratio{{{T},bound="low"}})', "at least")],
             thresholds=steps(GREEN, (0.02, YELLOW), (0.05, RED))),
        stat("Wrong answers of all", """The same as a share of all answers, whether from the cache or not. It is this that
             `max_error_rate` bounds; red above 0.5 %. `remora cache` names the entries and removes them.""", "percentunit",
             [(false_of("estimate", grown), "wrong")], decimals=2, thresholds=steps(GREEN, (0.0025, YELLOW), (0.005, RED))),
    )
    made.row(
        "Hits and misses",
        series("Hit rate by tier", "Share of the cacheable requests that each tier answered. The semantic tier falling to nothing while "
               "requests go on is an alert (`RemoraCacheSilent`).", "percentunit",
               [(f"{rate(ALL, T + HIT, 'tier')} / on () group_left () ({rate(ALL, T)} > 0)", "{{tier}}")], width=12, stack=True,
               max=1, min=0),
        series("What became of cacheable requests", "Requests a second by result; those that are not cacheable are not among them.", "reqps",
               [(rate(ALL, T, "result"), "{{result}}")], width=12, stack=True),
        series("Why not a hit", """Requests a second that were not answered from the cache, by the reason that the reply names in
               `x-remora-reason`. `not_stored` is a new prompt; the names of guards mean that something near differed in a number, a
               name, a negation.""", "reqps",
               [(f"topk(12, {rate(ALL, T + NOT_HIT, 'reason')})", "{{reason}}")],
               width=12),
        series("Hit rate by tenant", "Share of the cacheable requests of each tenant that the cache answered. A low one: does the "
               "tenant send a temperature, tools, or a time in its prompts?", "percentunit",
               [(f"{rate(ALL, T + HIT, 'tenant')} / ({rate(ALL, T, 'tenant')} > 0)", "{{tenant}}")], width=12, max=1, min=0),
    )
    made.row(
        "Decisions of the semantic tier",
        series("Verdicts", "Decisions a second on the best candidate: accepted, or turned down and why. Many of one guard on prompts that "
               "do mean the same: it can be switched off (`guards_off`).", "ops",
               [(f"topk(12, {rate('cache_verdicts_total', '', 'verdict, reason')})", "{{verdict}} {{reason}}")], width=8),
        heat("Similarity of what was accepted", "How near the stored prompt was to the one asked, where it was accepted (cosine).",
             "none", rate("cache_similarity_bucket", 'verdict="accept"', "le").replace("rate(", "increase(")),
        heat("Similarity of what was turned down", "How near the best candidate was where it was turned down. Much of it close to 1: "
             "guards do their work, or are too strict.", "none",
             rate("cache_similarity_bucket", 'verdict="reject"', "le").replace("rate(", "increase(")),
        series("Semantic hits that were wrong by tenant", "Estimate from background checks, and the upper end of its 95 % interval. Few checks "
               "make it wide: raise `cache.audit.rate`.", "percentunit",
               [(same("cache_false_hit_ratio", f'{T},bound="estimate"', "tenant"), "{{tenant}}"),
                (same("cache_false_hit_ratio", f'{T},bound="high"', "tenant"), "{{tenant}}, at most")], min=0,
               thresholds=steps(GREEN, (0.05, RED))),
        series("Checks of hits", "Semantic hits that were asked again, a second, by what came of it. They cost money: see *Cost*, kind "
               "`check`.", "ops", [(rate("cache_checked_hits_total", T, "result"), "{{result}}")], stack=True),
        series("How learners serve", "Learners (one for each tenant and model) by stage: from serving hardly anything to serving all "
               "that the error budget allows.", "short",
               [(f'sum by (stage) (max by (tenant, stage) (remora_cache_decision_stage{{{T}}}))', "{{stage}}")], stack=True),
        series("What is learnt from", "Labels a second by source: audits of hits, misses compared with a fresh answer, feedback. None: the "
               "cache cannot know how often it is wrong.", "ops",
               [(rate("cache_labels_total", "", "source, label"), "{{source}} {{label}}")]),
        series("Feedback, links and alarms", "Feedback taken in, changes of answer groups, keys found probing for thresholds "
               "(`probe_alarm`), lessons skipped: a second.", "ops",
               [(or_zero(rate("cache_feedback_total")), "feedback"), (or_zero(rate("cache_links_total")), "links"),
                (rate("cache_probe_alarms_total"), "probing keys"), (rate("cache_lessons_skipped_total"), "lessons skipped")]),
        series("Changes of stage", "Times that the error budget made the semantic tier stricter or more generous, in the last hour. Much "
               "to and fro: the budget is near what the traffic allows.", "short",
               [(or_zero("sum by (to) (increase(remora_cache_stage_changes_total{" + T + "}[1h]))"), "{{to}}")]),
    )
    made.row(
        "What it holds",
        stat("Entries", "Answers that can be served: `all` in the store, `memory` in this fleet's memory.", "short",
             [(same("cache_entries", "", "tier"), "{{tier}}")], width=6),
        stat("Size of entries", "Bytes of all answers in the store, and of those in memory. At `max_bytes` old ones go.", "bytes",
             [(same("cache_bytes", "", "tier"), "{{tier}}")], width=6),
        stat("Evicted in the range", "Entries taken out to stay within `max_entries` and `max_bytes`. Many: raise them, or shorten `ttl`.",
             "short", [(grown("cache_evictions_total"), "evicted")], width=6, thresholds=steps(BLUE)),
        stat("Index", "Memory of the vector indexes, the largest of all replicas.", "bytes", [(same("index_bytes"), "index")], width=6),
        series("Age of what is served", "How old answers are when they are served. Near `ttl`: it may be too short; users complain of stale "
               "answers: too long.", "s", quantiles("cache_age_seconds")),
        series("Entries over time", "Answers in the store and in memory.", "short", [(same("cache_entries", "", "tier"), "{{tier}}")]),
        series("Evictions", "Entries a second taken out to stay within the caps.", "ops", [(rate("cache_evictions_total"), "evictions")]),
        series("Answers that were not stored", "Answers a second that were not stored, by reason: cut off, refused, too large, not wanted.",
               "ops", [(or_zero(rate("cache_not_stored_total", "", "reason")), "{{reason}}")]),
        series("Vectors in memory", "By kind of index: a scan, or a graph for large partitions.", "short",
               [(same("index_entries", "", "kind"), "{{kind}}")]),
        series("Recall of the index", "Share of the ten nearest prompts that a search finds, sampled each minute; 1 is all.", "percentunit",
               [("min by (level) (remora_index_recall)", "{{level}}")], max=1),
    )
    made.row(
        "Speed",
        series("Embedding a prompt", "Time to get the vector of a prompt. Near `embedding.deadline` requests go on without it.", "s",
               quantiles("embedding_seconds")),
        series("Prompts without a vector", "A second, by reason; such requests can only hit exactly. `queue_full` or a growing queue: more "
               "`embedding.threads`.", "ops",
               [(or_zero(rate("embedding_failures_total", "", "reason")), "{{reason}}"), ("sum(remora_embedding_queue_depth)", "queue")]),
        series("Searching the index", "Time of one nearest-neighbour search, by kind: 95th percentile.", "s",
               [(quantile(0.95, "index_search_seconds", "", "kind"), "{{kind}}")]),
    )
    return made
