#!/usr/bin/env python3
"""The OpenAI Python SDK against two replicas that share a database and Redis, one of which dies in the middle.

    replicas.py DATA_A ADMIN_A DATA_B ADMIN_B KILL        URLs without a path; KILL is a command that kills replica B

The upstream must be `remora simulate`: its answers name the prompt, so one that was given to another question is seen. One
line a case, a summary, exit status 1 if any failed.
"""

import itertools
import json
import subprocess
import sys
import threading
import time
import urllib.request

from openai import APIStatusError, OpenAI

from sdk_compare import Report

MODEL = "gpt-4o-mini"
KEYS = ["sk-e2e-alpha", "sk-e2e-beta", "sk-e2e-gamma"]
ONLY_CACHED = {"Cache-Control": "only-if-cached"}
# What one replica does has reached the others by then.
SHARED_WITHIN = 1.0
# The SDK's own retries. A replica that is started again needs some seconds, and the SDK waits at most eight between two.
RETRIES = 12


def clients(url):
    return {key: OpenAI(base_url=f"{url}/v1", api_key=key, timeout=30, max_retries=RETRIES) for key in KEYS}


def ask(client, prompt, stream=False, headers=None):
    """Text, outcome and tier of one answer."""
    create = client.chat.completions.with_raw_response.create
    raw = create(model=MODEL, messages=[{"role": "user", "content": prompt}], stream=stream, extra_headers=headers)
    outcome, tier = raw.headers.get("x-remora-cache"), raw.headers.get("x-remora-tier")
    answer = raw.parse()
    if not stream:
        return answer.choices[0].message.content, outcome, tier
    return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices), outcome, tier


def cached(client, prompt):
    """What the replica has; it asks nobody else."""
    try:
        return ask(client.with_options(max_retries=0), prompt, headers=ONLY_CACHED)
    except APIStatusError as error:
        assert error.status_code == 504, f"{error.status_code}: {error}"
        return None


slowest = 0.0


def within(seconds, what, check):
    """The first true value of `check`, which must come in time; one more look at the end counts."""
    global slowest
    began = time.monotonic()
    while True:
        last = time.monotonic() >= began + seconds
        if found := check():
            if seconds == SHARED_WITHIN:
                slowest = max(slowest, time.monotonic() - began)
            return found
        assert not last, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def invalidate(admin, text):
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(f"{admin}/admin/v1/cache/invalidate", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["removed"]


def about(text, prompt):
    assert prompt.lower().rstrip("?") in text.lower(), f"an answer to another question: {text!r} to {prompt!r}"


def main():
    data_a, admin_a, data_b, admin_b, kill = sys.argv[1:]
    a, b = clients(data_a), clients(data_b)
    alpha, beta = KEYS[0], KEYS[1]
    report = Report()

    def shared(stream):
        kind = "streamed" if stream else "whole"
        for turn, (one, other) in enumerate([(a, b), (b, a)] * 3):
            prompt = f"Where does the {kind} river of turn {turn} begin?"
            text, outcome, _ = ask(one[alpha], prompt, stream)
            about(text, prompt)
            assert outcome == "MISS", outcome
            found = within(SHARED_WITHIN, "an exact hit on the other replica", lambda: cached(other[alpha], prompt))
            assert found[0] == text and found[1] == "HIT", found
            words = prompt.lower().rstrip("?")
            found = within(SHARED_WITHIN, "a hit in the same words", lambda: cached(other[alpha], words))
            assert found == (text, "HIT", "semantic"), found
            again = ask(other[alpha], prompt, not stream)
            assert again[:2] == (text, "HIT"), again
            assert cached(other[beta], prompt) is None, "an answer of another tenant"

    def invalidated():
        for turn, (one, other, admin) in enumerate([(a, b, admin_a), (b, a, admin_b)] * 3):
            prompt = f"How deep is the lake of turn {turn}?"
            ask(one[alpha], prompt)
            within(SHARED_WITHIN, "a hit on the other replica", lambda: cached(other[alpha], prompt))
            assert invalidate(admin, f"lake of turn {turn}") == 1
            assert cached(one[alpha], prompt) is None, "served by the replica that took it out"
            within(SHARED_WITHIN, "gone on the other replica", lambda: cached(other[alpha], prompt) is None)

    def killed():
        """Clients in turns on both replicas, with the SDK's own retries, while B is killed and started again."""
        stop, faults, counts = threading.Event(), [], {"answers": 0, "hits": 0}
        lock = threading.Lock()

        def run(key):
            try:
                for n in itertools.count():
                    if stop.is_set():
                        return
                    prompt = f"How high is the hill of number {n % 20}?"
                    # A stream that breaks off in the middle is not tried again by the SDK: those ask the one that lives.
                    stream = n % 3 == 0
                    text, outcome, _ = ask((a if stream or n % 2 else b)[key], prompt, stream)
                    about(text, prompt)
                    with lock:
                        counts["answers"] += 1
                        counts["hits"] += outcome == "HIT"
            except Exception as error:  # told by the thread that waits
                faults.append(f"{type(error).__name__}: {error}")

        def more():
            wanted = counts["answers"] + 60
            within(60, "more answers", lambda: faults or counts["answers"] >= wanted)

        threads = [threading.Thread(target=run, args=(key,)) for key in KEYS]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                more()
                subprocess.run([kill], check=True, timeout=60)
            more()
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        print(f"      {counts['answers']} answers, {counts['hits']} hits, replica B killed twice")
        assert not faults, faults[:3]
        assert counts["hits"] > 60, counts
        prompt = "How high is the hill of number 7?"
        assert cached(b[alpha], prompt), "the replica that was killed has what both know"

    report.case("whole answers are shared, exactly and in the same words, within a tenant", lambda: shared(False))
    report.case("streamed answers are shared, exactly and in the same words, within a tenant", lambda: shared(True))
    report.case("an invalidation on one replica is obeyed by the other", invalidated)
    report.case("a replica that is killed is not noticed by clients that retry", killed)
    print(f"      the slowest news took {slowest * 1000:.0f} ms to the other replica, the question included")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
