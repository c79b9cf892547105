#!/usr/bin/env python3
"""Ten tenants that were onboarded from one file, each with the OpenAI Python SDK, one of them abusive.

    tenants.py DATA DATABASE SECRETS SECONDS ELSEWHERE      DATA is a URL without a path, DATABASE the SQLite file, SECRETS the
                                                            JSON that `remora tenant apply --json` printed

Nine of them ask for SECONDS by themselves; then while the tenth, on trial, asks as fast as it can at ELSEWHERE, another proxy on
the machine; then while it does so beside them. The second phase tells what sharing the machine costs, the third what sharing the
proxy costs on top. Nobody but the tenth may see a rejection; each bill, summed up from the answers at list prices, must equal the
tenant's rows in the ledger. Times are printed and decide nothing. The upstream must be `remora simulate`.
"""

import json
import multiprocessing
import sqlite3
import sys
import threading
import time
from collections import Counter

from openai import APIStatusError, OpenAI

from sdk_compare import Report

MODEL, VECTORS = "gpt-4o-mini", "text-embedding-3-small"
# Nano-dollars for a token, as in config/prices.json.
INPUT, CACHED, OUTPUT, VECTOR = 150, 75, 600, 20
# Who is on trial and abuses it, and whose key is for embeddings only; see config/examples/tenants.toml.
ABUSER, INDEXER = "wonka", "stark"
# Requests a second of each tenant that behaves.
PACE = 4
ABUSERS = 4
PATIENCE = 30


def client(data, key):
    return OpenAI(base_url=f"{data}/v1", api_key=key, timeout=PATIENCE, max_retries=0)


class Seen:
    """What a tenant got: times of answers in seconds, outcomes, refusals by code, and the bill."""

    def __init__(self):
        self.times, self.outcomes, self.refused, self.bill = [], Counter(), Counter(), 0

    def add(self, other):
        self.times += other.times
        self.outcomes += other.outcomes
        self.refused += other.refused
        self.bill += other.bill


def cost(usage):
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else 0
    return (usage.prompt_tokens - cached) * INPUT + cached * CACHED + usage.completion_tokens * OUTPUT


def ask(sdk, prompt, stream, seen):
    began = time.monotonic()
    try:
        create = sdk.chat.completions.with_raw_response.create
        options = {"stream_options": {"include_usage": True}} if stream else {}
        raw = create(model=MODEL, max_tokens=64, stream=stream,
                     messages=[{"role": "user", "content": prompt}], **options)
        outcome, answer = raw.headers["x-remora-cache"], raw.parse()
        usage = [chunk.usage for chunk in answer if chunk.usage][-1] if stream else answer.usage
    except APIStatusError as error:
        seen.refused[(error.status_code, error.code)] += 1
        return
    seen.times.append(time.monotonic() - began)
    seen.outcomes[outcome] += 1
    if outcome == "MISS":
        seen.bill += cost(usage)


def embed(sdk, prompt, seen):
    began = time.monotonic()
    try:
        raw = sdk.embeddings.with_raw_response.create(model=VECTORS, input=[prompt])
    except APIStatusError as error:
        seen.refused[(error.status_code, error.code)] += 1
        return
    seen.times.append(time.monotonic() - began)
    outcome = raw.headers["x-remora-cache"]
    seen.outcomes[outcome] += 1
    if outcome == "MISS":
        seen.bill += raw.parse().usage.prompt_tokens * VECTOR


def behave(data, tenant, key, phase, seconds, seen):
    """Asks at its pace; every third prompt is an old one, every second a stream."""
    sdk, number, until = client(data, key), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        due = time.monotonic() + 1 / PACE
        asked = number if number % 3 else number // 6
        prompt = f"{tenant}, {phase}: what is item {asked} on the list?"
        if tenant == INDEXER:
            embed(sdk, prompt, seen)
        else:
            ask(sdk, prompt, number % 2 == 0, seen)
        number += 1
        time.sleep(max(0, due - time.monotonic()))


def abuse(data, key, worker, seconds, results):
    """In a process of its own, so that it takes nothing from the others but what it takes from the proxy."""
    sdk, seen, number, until = client(data, key), Seen(), 0, time.monotonic() + seconds
    while time.monotonic() < until:
        ask(sdk, f"flood {worker} {number}", False, seen)
        number += 1
    results.put(seen)


def run(data, tenants, phase, seconds, abuser=None, flooded_at=None):
    """All tenants at once; what each of them saw."""
    seen = {tenant: Seen() for tenant in tenants}
    threads = [threading.Thread(target=behave, args=(data, tenant, key, phase, seconds, seen[tenant]))
               for tenant, key in tenants.items()]
    flood, results, flooded = [], multiprocessing.Queue(), Seen()
    if abuser:
        flood = [multiprocessing.Process(target=abuse, args=(flooded_at or data, abuser, worker, seconds, results))
                 for worker in range(ABUSERS)]
    for each in flood + threads:
        each.start()
    for _ in flood:
        flooded.add(results.get(timeout=seconds + 2 * PATIENCE))
    for each in flood + threads:
        each.join()
    return seen, flooded


def percentile(times, share):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))] if times else float("nan")


def ledger(database):
    """What the ledger says each tenant has to pay, nano-dollars. Rows are written within moments of their answers."""
    before = None
    while True:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as store:
            rows = dict(store.execute("SELECT tenant, SUM(cost_nano_usd) FROM requests GROUP BY tenant"))
            count = store.execute("SELECT COUNT(*) FROM requests").fetchone()[0]
        if count == before:
            return rows
        before = count
        time.sleep(0.5)


def main(data, database, secrets, seconds, elsewhere):
    with open(secrets, encoding="utf-8") as file:
        keys = {}
        for secret in json.load(file)["secrets"]:
            keys.setdefault(secret["tenant"], secret["secret"])
    report = Report()
    report.case("ten tenants have keys", lambda: check(len(keys) == 10, keys.keys()))
    tenth, abuser = ABUSER, keys.pop(ABUSER)
    phases = {"alone": run(data, keys, "alone", seconds)[0]}
    phases["machine shared"], _ = run(data, keys, "machine", seconds, abuser, elsewhere)
    phases["proxy shared"], flooded = run(data, keys, "beside", seconds, abuser)
    totals = {tenant: Seen() for tenant in keys}
    for seen in phases.values():
        for tenant in keys:
            totals[tenant].add(seen[tenant])

    print(f"\n{'tenant':<14}{'answers':>9}{'hits':>6}{'refused':>9}" + "".join(f"{phase + ', p99 ms':>24}" for phase in phases))
    for tenant, seen in totals.items():
        figures = "".join(f"{percentile(phase[tenant].times, 0.99) * 1e3:>24.1f}" for phase in phases.values())
        print(f"{tenant:<14}{len(seen.times):>9}{seen.outcomes['HIT']:>6}{sum(seen.refused.values()):>9}{figures}")
    print(f"{tenth:<14}{len(flooded.times):>9}{flooded.outcomes['HIT']:>6}{sum(flooded.refused.values()):>9}")
    for name, phase in phases.items():
        times = [time for seen in phase.values() for time in seen.times]
        print(f"the nine, {name}: p50 {percentile(times, 0.5) * 1e3:.1f} ms, p99 {percentile(times, 0.99) * 1e3:.1f} ms")
    print()

    for tenant in keys:
        refused = totals[tenant].refused
        report.case(f"{tenant} sees no rejection", lambda refused=refused: check(not refused, refused))
    report.case(f"{tenth} is held to its limits", lambda: check(
        set(flooded.refused) == {(429, "rate_limit_exceeded")} and flooded.refused.total() > len(flooded.times),
        (len(flooded.times), flooded.refused)))
    rows = ledger(database)
    for tenant in keys:
        bill = totals[tenant].bill
        report.case(f"the bill of {tenant} is the sum of its rows",
                    lambda tenant=tenant, bill=bill: check(rows[tenant] == bill > 0, (rows[tenant], bill)))
    report.case(f"so is that of {tenth}", lambda: check(rows[tenth] == flooded.bill, (rows[tenth], flooded.bill)))
    return report.finish()


def check(holds, what):
    assert holds, str(what)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5]))
