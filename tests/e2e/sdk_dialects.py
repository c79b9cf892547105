#!/usr/bin/env python3
"""Anthropic's Python SDK, and OpenAI's on Responses, once straight to an upstream and once through Remora, which also prices them.

    sdk_dialects.py BASE_URL_DIRECT BASE_URL_PROXY [ADMIN_URL]        both end in /v1, as for sdk_compare.py

The same answer must come both ways, whole and as a stream; with ADMIN_URL the ledger row of each must have the tokens of the answer's
own usage. The upstream must be `remora simulate`.
"""

import json
import sys
import time
import urllib.error
import urllib.request

from anthropic import Anthropic
from openai import OpenAI

KEY = "sk-e2e-alpha"
PROMPT = "What is the capital of Norway, and since when?"
VOLATILE = {"id", "created_at", "_request_id"}


def plain(value):
    return {name: inner for name, inner in value.model_dump(mode="json", warnings=False).items() if name not in VOLATILE}


def anthropic(url, stream):
    client = Anthropic(base_url=url.removesuffix("/v1"), api_key=KEY, timeout=30, max_retries=0)
    asked = {"model": "sim-cached", "max_tokens": 64, "system": "You answer briefly.", "messages": [{"role": "user", "content": PROMPT}]}
    if stream:
        with client.messages.stream(**asked) as events:
            text = "".join(events.text_stream)
            message, headers = events.get_final_message(), events.response.headers
        assert message.content[0].text == text
    else:
        raw = client.messages.with_raw_response.create(**asked)
        message, headers = raw.parse(), raw.headers
    usage = message.usage
    tokens = {"input": usage.input_tokens, "cache_read": usage.cache_read_input_tokens, "output": usage.output_tokens}
    return plain(message), tokens, headers


def responses(url, stream):
    client = OpenAI(base_url=url, api_key=KEY, timeout=30, max_retries=0)
    asked = {"model": "sim-cached", "max_output_tokens": 64, "instructions": "You answer briefly.", "input": PROMPT}
    raw = client.responses.with_raw_response.create(**asked, stream=stream)
    headers, parsed = raw.headers, raw.parse()
    answer = parsed
    if stream:
        text = ""
        for event in parsed:
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type == "response.completed":
                answer = event.response
        assert answer.output_text == text
    usage = answer.usage
    cached = usage.input_tokens_details.cached_tokens
    tokens = {"input": usage.input_tokens - cached, "cache_read": cached, "output": usage.output_tokens}
    return plain(answer), tokens, headers


def row(admin, request_id):
    for _ in range(100):
        try:
            return json.load(urllib.request.urlopen(f"{admin}/admin/v1/requests/{request_id}", timeout=5))
        except urllib.error.HTTPError:
            time.sleep(0.05)
    raise AssertionError(f"no ledger row for {request_id}")


def case(ask, stream, direct, proxy, admin):
    expected, tokens, _ = ask(direct, stream)
    got, told, headers = ask(proxy, stream)
    assert got == expected, f"{got} through the proxy, {expected} direct"
    assert told == tokens and tokens["cache_read"] > 0, f"{told} {tokens}"
    if admin:
        kept = row(admin, headers["x-remora-request-id"])
        assert {name: kept["tokens"][name] for name in tokens} == tokens and kept["tokens"]["source"] == "billed", kept


def main():
    if len(sys.argv) not in (3, 4):
        print(__doc__)
        return 2
    direct, proxy = (url.rstrip("/") for url in sys.argv[1:3])
    admin = sys.argv[3].rstrip("/") if len(sys.argv) == 4 else None
    failed = 0
    for ask in (anthropic, responses):
        for stream in (False, True):
            name = f"{ask.__name__}, {'stream' if stream else 'whole'}"
            try:
                case(ask, stream, direct, proxy, admin)
                print(f"ok    {name}")
            except Exception as error:  # any failure of a case is its result, not the end of the run
                failed += 1
                print(f"FAIL  {name}: {type(error).__name__}: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
