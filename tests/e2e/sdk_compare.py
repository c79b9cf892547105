#!/usr/bin/env python3
"""The OpenAI Python SDK and LangChain, once straight to an upstream and once through Remora.

    sdk_compare.py BASE_URL_DIRECT BASE_URL_PROXY        both end in /v1

First every case runs against both and the results are compared field by field; `Cache-Control: no-cache` keeps the cache out
of it. Then the cache cases run through the proxy alone (they are left out when both URLs are the same). One line a case, a
summary, exit status 1 if any failed. The upstream must be `remora simulate`.
"""

import json
import sys
import threading
import time
import uuid

import openai
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from openai import OpenAI

KEY, OTHER_KEY = "sk-e2e-alpha", "sk-e2e-beta"
NO_CACHE = {"Cache-Control": "no-cache"}
NOT_A_HIT = {"MISS", "BYPASS", "REFRESH"}
VOLATILE = {"id", "created", "_request_id", "request_id"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "capital",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "population": {"type": "integer"}, "official": {"type": "boolean"}},
            "required": ["city", "population", "official"],
            "additionalProperties": False,
        },
    },
}


class Report:
    def __init__(self):
        self.passed, self.failed = 0, 0

    def case(self, name, check):
        try:
            check()
        except Exception as error:  # any failure of a case is its result, not the end of the run
            self.failed += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}")
        else:
            self.passed += 1
            print(f"ok    {name}")

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0


def client(base_url, key=KEY, headers=NO_CACHE, **options):
    return OpenAI(base_url=base_url, api_key=key, default_headers=headers, timeout=30, **options)


def plain(value):
    """A response as data, without what differs from call to call."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json", warnings=False)
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if name not in VOLATILE}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def first_difference(a, b, path="$"):
    """The first place where two values differ, or None."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(a.keys() | b.keys()):
            if name not in a or name not in b:
                return f"{path}.{name}: only {'direct' if name in a else 'through the proxy'}"
            found = first_difference(a[name], b[name], f"{path}.{name}")
            if found:
                return found
        return None
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return f"{path}: {len(a)} items direct, {len(b)} through the proxy"
        return next(filter(None, (first_difference(x, y, f"{path}[{i}]") for i, (x, y) in enumerate(zip(a, b)))), None)
    return None if a == b and type(a) is type(b) else f"{path}: {a!r:.200} direct, {b!r:.200} through the proxy"


def user(text):
    return [{"role": "system", "content": "You answer briefly."}, {"role": "user", "content": text}]


def chat(c, text="What is the capital of Norway?", model="gpt-4o", **options):
    return c.chat.completions.create(model=model, messages=user(text), **options)


def require(condition, message):
    if not condition:
        raise AssertionError(message)


def assembled(chunks):
    """What a client makes of a stream: texts joined by choice, tool calls by index, the last finish_reason, the usage."""
    choices, usage = {}, None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            made = choices.setdefault(choice.index, {"role": None, "content": "", "reasoning": "", "refusal": "", "calls": {}, "finish": None})
            delta = choice.delta
            made["role"] = delta.role or made["role"]
            made["content"] += delta.content or ""
            made["reasoning"] += getattr(delta, "reasoning_content", None) or ""
            made["refusal"] += delta.refusal or ""
            for call in delta.tool_calls or []:
                known = made["calls"].setdefault(call.index, {"id": call.id, "name": call.function.name, "arguments": ""})
                known["arguments"] += call.function.arguments or ""
            made["finish"] = choice.finish_reason or made["finish"]
    return {"choices": choices, "usage": plain(usage)}


def whole(completion):
    """A completion in the form of `assembled`."""
    choices = {}
    for choice in completion.choices:
        message = choice.message
        calls = {i: {"id": c.id, "name": c.function.name, "arguments": c.function.arguments} for i, c in enumerate(message.tool_calls or [])}
        choices[choice.index] = {
            "role": message.role,
            "content": message.content or "",
            "reasoning": getattr(message, "reasoning_content", None) or "",
            "refusal": message.refusal or "",
            "calls": calls,
            "finish": choice.finish_reason,
        }
    return {"choices": choices, "usage": plain(completion.usage)}


def stream_and_whole(c, **options):
    """Both forms; they must agree with each other before they are compared with the other side's."""
    streamed = assembled(chat(c, stream=True, stream_options={"include_usage": True}, **options))
    complete = whole(chat(c, **options))
    difference = first_difference(complete, streamed)
    require(difference is None, f"stream and JSON differ: {difference}")
    return streamed


# --- cases that compare -----------------------------------------------------------------------------------------------


def raw_stream(c):
    return [plain(chunk) for chunk in chat(c, stream=True)]


def raw_stream_with_usage(c):
    chunks = [plain(chunk) for chunk in chat(c, stream=True, stream_options={"include_usage": True})]
    require(chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] > 0, "no usage chunk at the end")
    return chunks


def stream_helper(c):
    with c.chat.completions.stream(model="gpt-4o", messages=user("Stream this")) as stream:
        kinds = [event.type for event in stream]
        final = plain(stream.get_final_completion())
    return {"kinds": kinds, "final": final}


def json_mode(c):
    completion = chat(c, response_format={"type": "json_object"})
    json.loads(completion.choices[0].message.content)
    return plain(completion)


def json_schema(c):
    completion = chat(c, response_format=SCHEMA)
    require(set(json.loads(completion.choices[0].message.content)) == {"city", "population", "official"}, "not the schema")
    return plain(completion)


def embeddings(c, **options):
    answer = c.embeddings.create(model="text-embedding-3-small", input=["first", "second", "erste Öffnung"], **options)
    return plain(answer)


def embeddings_agree(c):
    # Without encoding_format the SDK asks for base64 and decodes it.
    decoded, floats = embeddings(c, dimensions=32), embeddings(c, dimensions=32, encoding_format="float")
    for a, b in zip(decoded["data"], floats["data"]):
        require(all(abs(x - y) < 1e-6 for x, y in zip(a["embedding"], b["embedding"])), "base64 and float differ")
    return decoded


def completion_stream(c):
    chunks = c.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say hello", stream=True, stream_options={"include_usage": True})
    return [plain(chunk) for chunk in chunks]


def content_type(c):
    json_type = c.chat.completions.with_raw_response.create(model="gpt-4o", messages=user("type")).headers["content-type"]
    with c.chat.completions.with_streaming_response.create(model="gpt-4o", messages=user("type"), stream=True) as response:
        stream_type = response.headers["content-type"]
        for _ in response.iter_lines():
            pass
    return [json_type.split(";")[0], stream_type.split(";")[0]]


def error_of(base_url, call, expected, retries=0, key=KEY, passes_through=True):
    """The SDK's exception for a failing call, and how many requests the SDK sent for it."""
    attempts = []
    http = openai.DefaultHttpxClient(event_hooks={"request": [attempts.append]})
    c = client(base_url, key, max_retries=retries, http_client=http)
    try:
        call(c)
    except openai.APIStatusError as error:
        require(type(error) is expected, f"{type(error).__name__}, not {expected.__name__}")
        body = error.body if isinstance(error.body, dict) else {}
        require(body.get("message"), f"no error message in {error.body!r}")
        seen = {"class": type(error).__name__, "status": error.status_code, "attempts": len(attempts)}
        return {**seen, **plain(body)} if passes_through else seen
    except openai.APIError as error:
        require(type(error) is expected, f"{type(error).__name__}, not {expected.__name__}")
        return {"class": type(error).__name__, "attempts": len(attempts)}
    raise AssertionError(f"no error; expected {expected.__name__}")


def recovers(base_url):
    """Two ordered failures, then an answer: the SDK's own retries get there, whoever retries on the way."""
    c = client(base_url, max_retries=3)
    # Failures are counted by conversation, so each side needs one of its own.
    answer = chat(c, f"recover {uuid.uuid4()}", model="sim-fault-status=503+times=2")
    require(answer.choices[0].message.content.startswith("You asked"), "no answer after the failures")
    return "recovered"


def slow(c):
    return chat(c.with_options(timeout=0.3), model="sim-fault-latency=3s")


def mid_stream_error(c):
    for _ in chat(c, model="sim-fault-error-event=3", stream=True):
        pass


def langchain(base_url, key=KEY, headers=NO_CACHE, **options):
    return ChatOpenAI(
        base_url=base_url, api_key=key, model="gpt-4o", temperature=0, default_headers=headers, include_response_headers=True, max_retries=0, **options
    )


def langchain_message(message):
    metadata = {name: value for name, value in message.response_metadata.items() if name not in VOLATILE | {"headers"}}
    return plain({"content": message.content, "calls": message.tool_calls, "usage": message.usage_metadata, "metadata": metadata})


def langchain_stream(base_url):
    parts = list(langchain(base_url, stream_usage=True).stream("Stream for LangChain"))
    joined = parts[0]
    for part in parts[1:]:
        joined = joined + part
    return langchain_message(joined)


def langchain_embeddings(base_url, headers=NO_CACHE):
    # check_embedding_ctx_length would fetch a tokenizer.
    model = OpenAIEmbeddings(
        base_url=base_url, api_key=KEY, model="text-embedding-3-small", dimensions=16, default_headers=headers, check_embedding_ctx_length=False
    )
    return model.embed_documents(["one", "two"])


def compare_cases(report, direct, proxy):
    def both(name, call):
        def check():
            difference = first_difference(call(direct), call(proxy))
            require(difference is None, difference)

        report.case(f"compare: {name}", check)

    def sdk(name, call):
        both(name, lambda url: call(client(url)))

    def fails(name, call, expected, **options):
        both(name, lambda url: error_of(url, call, expected, **options))

    sdk("chat", lambda c: plain(chat(c)))
    sdk("chat, many turns and parts", lambda c: plain(c.chat.completions.create(model="gpt-4o", messages=[
        {"role": "developer", "content": "d"}, {"role": "user", "content": [{"type": "text", "text": "eins "}, {"type": "text", "text": "zwei"}]},
        {"role": "assistant", "content": "a"}, {"role": "user", "content": "東京 👩‍👩‍👧 ☕?"}])))
    sdk("chat, reasoning model", lambda c: stream_and_whole(c, model="sim-reason-1"))
    sdk("chat, refusal", lambda c: stream_and_whole(c, text="[refuse] this"))
    sdk("chat, cached prompt tokens", lambda c: plain(chat(c, model="sim-cached")))
    sdk("chat, max_completion_tokens", lambda c: plain(chat(c, max_completion_tokens=5)))
    sdk("chat, stop", lambda c: plain(chat(c, stop=["asked"])))
    sdk("chat, n=3", lambda c: plain(chat(c, n=3)))
    sdk("chat, n=2, stream", lambda c: stream_and_whole(c, n=2))
    sdk("chat, logprobs", lambda c: plain(chat(c, logprobs=True, top_logprobs=3)))
    sdk("chat, logprobs, stream", lambda c: [plain(x) for x in chat(c, logprobs=True, top_logprobs=2, stream=True)])
    sdk("chat, unknown member", lambda c: plain(chat(c, extra_body={"vendor_option": {"a": [1, 2.50, None]}})))
    sdk("stream, chunk by chunk", raw_stream)
    sdk("stream, chunk by chunk with usage", raw_stream_with_usage)
    sdk("stream, the SDK's helper", stream_helper)
    sdk("stream, content types", content_type)
    sdk("tool call", lambda c: plain(chat(c, "get weather in Oslo", tools=[WEATHER, TIME])))
    sdk("tool call, forced", lambda c: plain(chat(c, tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "get_weather"}})))
    sdk("tool calls, parallel", lambda c: plain(chat(c, "in parallel", tools=[WEATHER, TIME])))
    sdk("tool calls, parallel, stream", lambda c: stream_and_whole(c, text="in parallel", tools=[WEATHER, TIME]))
    sdk("tools offered, none called", lambda c: plain(chat(c, tools=[WEATHER])))
    sdk("JSON mode", json_mode)
    sdk("JSON schema", json_schema)
    sdk("JSON schema, stream", lambda c: stream_and_whole(c, response_format=SCHEMA))
    sdk("completions", lambda c: plain(c.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say hello", n=2, logprobs=2)))
    sdk("completions, stream", completion_stream)
    sdk("embeddings, float", lambda c: embeddings(c, encoding_format="float"))
    sdk("embeddings, base64", lambda c: embeddings(c, encoding_format="base64", dimensions=64))
    sdk("embeddings, base64 equals float", embeddings_agree)
    sdk("models, list", lambda c: [plain(model) | {"id": model.id} for model in c.models.list()])
    sdk("models, retrieve", lambda c: plain(c.models.retrieve("gpt-4o")) | {"id": c.models.retrieve("gpt-4o").id})

    fails("error 400", lambda c: c.chat.completions.create(model="gpt-4o", messages=[]), openai.BadRequestError, retries=2)
    fails("error 401", chat, openai.AuthenticationError, retries=2, key="sk-invalid-e2e")
    fails("error 404, chat", lambda c: chat(c, model="no-such-model"), openai.NotFoundError, retries=2)
    fails("error 404, model", lambda c: c.models.retrieve("no-such-model"), openai.NotFoundError, retries=2)
    fails("error 404, stream", lambda c: list(chat(c, model="no-such-model", stream=True)), openai.NotFoundError)
    limited = "sim-fault-status=429+retry-after=0.01"
    fails("error 429, two retries", lambda c: chat(c, model=limited), openai.RateLimitError, retries=2, passes_through=False)
    fails("error 500, one retry", lambda c: chat(c, model="sim-fault-status=500"), openai.InternalServerError, retries=1, passes_through=False)
    both("error 503 twice, then an answer", recovers)
    fails("timeout", slow, openai.APITimeoutError, retries=1)
    fails("error in the middle of a stream", mid_stream_error, openai.APIError, passes_through=False)

    both("LangChain, invoke", lambda url: langchain_message(langchain(url).invoke("For LangChain")))
    both("LangChain, stream", langchain_stream)
    both("LangChain, tools", lambda url: langchain_message(langchain(url).bind_tools([WEATHER]).invoke("get weather in Bergen")))
    both("LangChain, structured output", lambda url: langchain(url).with_structured_output(SCHEMA["json_schema"]["schema"] | {"title": "capital"}).invoke("q"))
    both("LangChain, embeddings", langchain_embeddings)


# --- cases about the cache --------------------------------------------------------------------------------------------


class CacheCases:
    """Each case has a system message of its own, so that it meets nothing stored before it, in this run or another."""

    def __init__(self, proxy):
        self.proxy = proxy
        self.alpha = client(proxy, headers={}, max_retries=0)
        self.beta = client(proxy, OTHER_KEY, headers={}, max_retries=0)

    def ask(self, scope, text, c=None, headers=None, **options):
        """The parsed completion and what `x-remora-cache` and its companions said."""
        messages = [{"role": "system", "content": f"Case {scope}"}, {"role": "user", "content": text}]
        create = (c or self.alpha).chat.completions.with_raw_response.create
        raw = create(model="gpt-4o", temperature=0, messages=messages, extra_headers=headers or {}, **options)
        parsed = raw.parse()
        if options.get("stream"):
            parsed = list(parsed)
        return parsed, said(raw.headers)

    def repeat(self, first, second):
        """Runs one call, gives the store a moment, runs the other."""
        first_result = first()
        time.sleep(0.5)
        return first_result, second()

    def identical_is_a_hit(self):
        scope = uuid.uuid4()
        (first, a), (second, b) = self.repeat(lambda: self.ask(scope, "Name three rivers."), lambda: self.ask(scope, "Name three rivers."))
        require(a["cache"] == "MISS", f"first was {a}")
        require(b["cache"] == "HIT" and b["tier"] == "exact", f"second was {b}")
        require(b["age"] is not None and "hit" in (b["status"] or ""), f"no Age or Cache-Status on the hit: {b}")
        require(first.id != second.id, "a hit must have a new id")
        difference = first_difference(plain(first), plain(second))
        require(difference is None, difference)

    def reworded_is_a_hit(self):
        scope = uuid.uuid4()
        first, second = "What is the capital of France?", "What is the capital city of France?"
        (a, _), (b, how) = self.repeat(lambda: self.ask(scope, first), lambda: self.ask(scope, second))
        require(how["cache"] == "HIT" and how["tier"] == "semantic", f"{how}")
        require(a.choices[0].message.content == b.choices[0].message.content, "another answer")

    def another_number_is_not(self):
        scope = uuid.uuid4()
        ask = lambda number: self.ask(scope, f"Where is my order {number}?")
        _, (b, how) = self.repeat(lambda: ask(48213), lambda: ask(48214))
        require(how["cache"] in NOT_A_HIT and "48214" in b.choices[0].message.content, f"{how}: {b.choices[0].message.content}")

    def another_meaning_is_not(self):
        scope = uuid.uuid4()
        first, second = "Is it safe to take aspirin with alcohol?", "Is it not safe to take aspirin with alcohol?"
        _, (b, how) = self.repeat(lambda: self.ask(scope, first), lambda: self.ask(scope, second))
        require(how["cache"] in NOT_A_HIT and second in b.choices[0].message.content, f"{how}")

    def another_conversation_is_not(self):
        _, (_, how) = self.repeat(lambda: self.ask(uuid.uuid4(), "And in winter?"), lambda: self.ask(uuid.uuid4(), "And in winter?"))
        require(how["cache"] in NOT_A_HIT, f"{how}")

    def another_caller_is_not(self):
        for theirs in ["What is my balance?", "What is my balance"]:
            scope = uuid.uuid4()
            ask = lambda c, text="What is my balance?": self.ask(scope, text, c)[1]
            self.repeat(lambda: ask(self.alpha), lambda: None)
            other, own = ask(self.beta, theirs), ask(self.alpha)
            require(other["cache"] == "MISS", f"the other caller got {other} for {theirs!r}")
            require(own["cache"] == "HIT", f"the owner got {own}")

    def stream_after_json(self):
        scope = uuid.uuid4()
        options = {"stream": True, "stream_options": {"include_usage": True}}
        (a, _), (b, how) = self.repeat(lambda: self.ask(scope, "Name a lake."), lambda: self.ask(scope, "Name a lake.", **options))
        require(how["cache"] == "HIT", f"{how}")
        difference = first_difference(whole(a), assembled(b))
        require(difference is None, difference)

    def json_after_stream(self, **extra):
        scope = uuid.uuid4()
        (a, _), (b, how) = self.repeat(lambda: self.ask(scope, "Name a hill.", stream=True, **extra), lambda: self.ask(scope, "Name a hill."))
        require(how["cache"] == "HIT", f"{how}")
        difference = first_difference(assembled(a)["choices"], whole(b)["choices"])
        require(difference is None, difference)
        require(b.usage and b.usage.total_tokens > 0, "the stored stream lost its usage")
        usage_chunks = [chunk for chunk in a if chunk.usage]
        require(bool(usage_chunks) == bool(extra), f"{len(usage_chunks)} usage chunks with {extra}")

    def controls(self):
        scope = uuid.uuid4()
        text = "Name a bay."
        _, how = self.ask(scope, text, headers={"Cache-Control": "no-store"})
        time.sleep(0.5)
        _, after = self.ask(scope, text)
        require(how["cache"] in NOT_A_HIT and after["cache"] == "MISS", f"no-store: {how}, then {after}")
        time.sleep(0.5)
        _, refreshed = self.ask(scope, text, headers={"Cache-Control": "no-cache"})
        require(refreshed["cache"] == "REFRESH", f"no-cache: {refreshed}")
        _, off = self.ask(scope, text, headers={"x-remora-cache": "off"})
        require(off["cache"] == "BYPASS", f"off: {off}")
        try:
            self.ask(uuid.uuid4(), text, headers={"Cache-Control": "only-if-cached"})
        except openai.APIStatusError as error:
            require(error.status_code == 504, f"only-if-cached gave {error.status_code}")
        else:
            raise AssertionError("only-if-cached on a miss gave an answer")

    def never_stored(self):
        for case, options in {"cut by max_tokens": {"max_tokens": 3}, "refused": {"text": "[refuse] me"}}.items():
            scope, options = uuid.uuid4(), dict(options)
            text = options.pop("text", "Name a cape.")
            _, (_, how) = self.repeat(lambda: self.ask(scope, text, **options), lambda: self.ask(scope, text, **options))
            require(how["cache"] in NOT_A_HIT, f"{case}: {how}")

    def broken_stream_is_not_stored(self):
        scope = uuid.uuid4()
        messages = [{"role": "user", "content": f"broken {scope}"}]
        create = lambda: list(self.alpha.chat.completions.create(model="sim-fault-cut=4+times=1", temperature=0, messages=messages, stream=True))
        try:
            create()
        except Exception:  # the SDK's, or its HTTP client's: either tells the caller
            pass
        else:
            raise AssertionError("a cut stream passed for a whole one")
        time.sleep(0.5)
        require(assembled(create())["choices"][0]["finish"] == "stop", "the second answer is not whole")

    def tools_are_exact_only(self):
        scope = uuid.uuid4()
        ask = lambda text: self.ask(scope, text, tools=[WEATHER])
        (first, _), (near, how) = self.repeat(lambda: ask("get weather in Oslo"), lambda: ask("get weather in Oslo!"))
        require(how["cache"] in NOT_A_HIT and near.choices[0].message.tool_calls, f"{how}")

    def embeddings_hit(self):
        text = f"vector {uuid.uuid4()}"
        create = lambda: self.alpha.embeddings.with_raw_response.create(model="text-embedding-3-small", input=[text, "b"], dimensions=16)
        first, second = self.repeat(create, create)
        require(said(second.headers)["cache"] == "HIT", f"{said(second.headers)}")
        require(plain(first.parse())["data"] == plain(second.parse())["data"], "other vectors")

    def coalesced(self):
        scope, answers = uuid.uuid4(), []
        run = lambda: answers.append(self.ask(scope, "Name a wood."))
        threads = [threading.Thread(target=run) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        texts = {answer.choices[0].message.content for answer, _ in answers}
        misses = [how for _, how in answers if how["cache"] == "MISS"]
        require(len(answers) == 8 and len(texts) == 1 and len(misses) == 1, f"{len(answers)} answers, {len(texts)} texts, {[h['cache'] for _, h in answers]}")

    def langchain_hit(self):
        messages = [SystemMessage(f"Case {uuid.uuid4()}"), HumanMessage("Name a moor.")]
        model = langchain(self.proxy, headers={})
        first, second = self.repeat(lambda: model.invoke(messages), lambda: model.invoke(messages))
        require(second.response_metadata["headers"].get("x-remora-cache") == "HIT", f"{second.response_metadata['headers']}")
        streamed = "".join(part.content for part in langchain(self.proxy, headers={}).stream(messages))
        require(first.content == second.content == streamed, "other answers")


def said(headers):
    names = {"cache": "x-remora-cache", "tier": "x-remora-tier", "reason": "x-remora-reason", "status": "cache-status", "age": "age"}
    return {short: headers.get(name) for short, name in names.items()}


def cache_cases(report, proxy):
    cases = CacheCases(proxy)
    report.case("cache: an identical call is an exact hit", cases.identical_is_a_hit)
    report.case("cache: a reworded question is a semantic hit", cases.reworded_is_a_hit)
    report.case("cache: another order number is not a hit", cases.another_number_is_not)
    report.case("cache: a negated question is not a hit", cases.another_meaning_is_not)
    report.case("cache: the same words in another conversation are not a hit", cases.another_conversation_is_not)
    report.case("cache: another caller never gets it", cases.another_caller_is_not)
    report.case("cache: stream after JSON", cases.stream_after_json)
    report.case("cache: JSON after stream", cases.json_after_stream)
    report.case("cache: JSON after stream with usage", lambda: cases.json_after_stream(stream_options={"include_usage": True}))
    report.case("cache: request controls", cases.controls)
    report.case("cache: cut and refused answers are not stored", cases.never_stored)
    report.case("cache: a broken stream is not stored", cases.broken_stream_is_not_stored)
    report.case("cache: with tools no semantic hit", cases.tools_are_exact_only)
    report.case("cache: embeddings", cases.embeddings_hit)
    report.case("cache: eight at once reach the upstream once", cases.coalesced)
    report.case("cache: LangChain", cases.langchain_hit)


def main():
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    direct, proxy = (url.rstrip("/") for url in sys.argv[1:])
    report = Report()
    compare_cases(report, direct, proxy)
    if direct == proxy:
        print("cache cases left out: both URLs are the same")
    else:
        cache_cases(report, proxy)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
