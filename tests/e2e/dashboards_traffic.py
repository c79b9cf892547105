#!/usr/bin/env python3
"""Traffic that moves the series of the dashboards: a support desk's upstream, and those who ask it.

    dashboards_traffic.py upstream PORT              a provider that knows what is asked; takes alerts and traces too
    dashboards_traffic.py clients SECONDS URL…       asks these replicas for so long; the keys are those of `CONFIG`
    dashboards_traffic.py config UPSTREAM SECONDS    prints the configuration that both replicas are started with

The upstream answers the same question in other words with the same answer, as a model would, but for a few that it answers by the
words: so checks of hits come out right and wrong. `remora simulate` answers by the words only.
"""

import http.client
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONFIG = """\
[server]
passthrough = false
[[upstream]]
name = "provider"
url = "{upstream}/v1"
api_key_env = "UPSTREAM_KEY"
# Patience for a busy machine.
[redis]
deadline = "500ms"
[embedding]
deadline = "1s"
[limits]
reconcile = "2s"
[cache]
max_error_rate = 0.02
[cache.audit]
rate = 0.3
per_hour = 1000000
tokens_per_day = 4000000000
[alerts]
webhook = "{upstream}/hook"
webhook_secret_env = "HOOK_SECRET"
rejections = 5
[telemetry]
models = ["gpt-4o", "gpt-4o-mini", "o4-mini", "text-embedding-3-small"]
otlp = "{upstream}"
trace_ratio = 0.1

[[tenant]]
name = "acme"
limits = {{ rpm = 3000, tpm = 3000000 }}
budgets = [{{ period = "month", usd = "{acme}" }}, {{ name = "gpt-4o", period = "day", usd = "{gpt}", model = "gpt-4o" }}]
cache = {{ share = "tenant" }}
[[tenant.key]]
name = "web"
secret_env = "KEY_WEB"
[[tenant.key]]
name = "batch"
secret_env = "KEY_BATCH"

[[tenant]]
name = "globex"
limits = {{ rpm = 1000, tpm = 2500000, concurrency = 64 }}
budgets = [{{ period = "month", usd = "{globex}" }}]
cache = {{ share = "tenant" }}
[[tenant.key]]
name = "helpdesk"
secret_env = "KEY_HELPDESK"

# Equal requests only, and a model without a price.
[[tenant]]
name = "initech"
budgets = [{{ period = "month", usd = "{initech}", hard = false }}]
cache = {{ mode = "exact" }}
[[tenant.key]]
name = "app"
secret_env = "KEY_APP"

# The semantic tier only watches.
[[tenant]]
name = "umbrella"
limits = {{ rpm = 600 }}
cache = {{ mode = "shadow" }}
[[tenant.key]]
name = "research"
secret_env = "KEY_RESEARCH"

# Is held to its limit.
[[tenant]]
name = "tyrell"
limits = {{ rpm = 3 }}
[[tenant.key]]
name = "free"
secret_env = "KEY_FREE"

# Spends its budget.
[[tenant]]
name = "wonka"
budgets = [{{ name = "trial", period = "day", usd = "0.04" }}]
[[tenant.key]]
name = "trial"
secret_env = "KEY_TRIAL"

[[tenant]]
name = "stark"
limits = {{ tpm = 5000 }}
[[tenant.key]]
name = "indexer"
secret_env = "KEY_INDEXER"
"""

# Dollars for each second of traffic, so that some are spent and others are not, however long it takes.
BUDGETS = {"acme": 0.07, "gpt": 0.035, "globex": 0.06, "initech": 0.0005}
SUBJECTS = """the return policy|opening hours|shipping costs|gift cards|the loyalty programme|warranty claims|changing a delivery address
|cancelling an order|payment by invoice|a lost parcel|student discounts|the newsletter|resetting a password|two-factor login|exporting
my data|the mobile app|a broken screen|spare parts|repair times|trade-in offers|the referral bonus|store pickup|customs duties|recycling
old devices|battery care|setting up wifi|the free trial|upgrading a plan|downgrading a plan|a duplicate charge|refund times|tax invoices
|bulk orders|accessibility settings|parental controls|the subscription box|allergens|care instructions|size charts|price matching"""
SUBJECTS = [subject.replace("\n", " ").strip() for subject in SUBJECTS.split("|")]
PHRASES = ["Tell me about {}", "Please tell me about {}", "Tell me about {} please", "Could you tell me about {}?",
           "Can you please tell me about {}?", "I would like to know about {}", "What can you tell me about {}?"]
# Subjects whose answer depends on the words of the question.
FICKLE = {"the newsletter", "battery care", "size charts"}
SYSTEM = "You are the support assistant of a shop that sells devices. Answer kindly, briefly and only what you know. " * 60
WORDS = ("you can find it in your account where each order has a page of its own and if something is missing there write to us with "
         "the number of the order and we look into it within two working days").split()


def answer_to(prompt):
    subject = next((subject for subject in SUBJECTS if subject in prompt), prompt)
    chance = random.Random(prompt if subject in FICKLE else subject)
    return f"About {subject}: " + " ".join(chance.choice(WORDS) for _ in range(chance.randint(60, 220))) + "."


def tokens(text):
    return -(-len(text) // 4)


class Provider(BaseHTTPRequestHandler):
    """An OpenAI-compatible provider."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    posted = 0

    def log_message(self, *_):
        pass

    def reply(self, status, body, kind="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self):
        self.reply(200, {"object": "list", "data": []})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/v1/traces":
            return self.reply(200, b"", "application/x-protobuf")
        body = json.loads(body)
        if self.path == "/hook":
            # Every other try fails.
            Provider.posted += 1
            return self.reply(503 if Provider.posted % 2 else 200, {})
        if self.path.endswith("/embeddings"):
            texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
            time.sleep(0.01)
            count = sum(map(tokens, texts))
            return self.reply(200, {
                "object": "list", "model": body["model"], "usage": {"prompt_tokens": count, "total_tokens": count},
                "data": [{"object": "embedding", "index": place, "embedding": [0.6, 0.8]} for place in range(len(texts))]})
        prompt = body["messages"][-1]["content"]
        chance = random.Random(time.time_ns())
        if "[fail]" in prompt:
            return self.reply(503, {"error": {"message": "overloaded", "type": "server_error"}})
        time.sleep(2 if "[slow]" in prompt else chance.uniform(0.03, 0.12))
        text = answer_to(prompt)
        asked = sum(tokens(message["content"]) for message in body["messages"])
        thought = 128 if body["model"].startswith("o") else 0
        usage = {"prompt_tokens": asked, "completion_tokens": tokens(text) + thought,
                 "total_tokens": asked + tokens(text) + thought,
                 "prompt_tokens_details": {"cached_tokens": 1024 if asked > 1024 and chance.random() < 0.5 else 0},
                 "completion_tokens_details": {"reasoning_tokens": thought}}
        head = {"id": f"chatcmpl-{chance.getrandbits(48):x}", "created": int(time.time()), "model": body["model"]}
        finish = "length" if "[long]" in prompt else "stop"
        if "[silent]" in prompt:
            usage = None
        if not body.get("stream"):
            return self.reply(200, {**head, "object": "chat.completion", "usage": usage, "choices": [
                {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}]})
        events = [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}]
        events += [{"choices": [{"index": 0, "delta": {"content": text[at:at + 60]}, "finish_reason": None}]}
                   for at in range(0, len(text), 60)]
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if usage and (body.get("stream_options") or {}).get("include_usage"):
            events.append({"choices": [], "usage": usage})
        lines = [f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', **event})}\n\n" for event in events]
        self.reply(200, ("".join(lines) + "data: [DONE]\n\n").encode(), "text/event-stream")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def chat(prompt, model="gpt-4o-mini", **more):
    return {"model": model, "temperature": 0.2, **more,
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]}


class Client:
    """One caller, on one connection to one replica."""

    def __init__(self, url, seen):
        self.address, self.seen = url.removeprefix("http://"), seen
        self.connection = http.client.HTTPConnection(self.address, timeout=30)

    def ask(self, key, body, path="/v1/chat/completions", **headers):
        text = json.dumps(body)
        sent = {"authorization": f"Bearer {key}", "content-type": "application/json",
                **{name.replace("_", "-"): value for name, value in headers.items()}}
        try:
            self.connection.request("POST", path, text, sent)
            reply = self.connection.getresponse()
            reply.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.seen["broken"] += 1
            return None
        self.seen[f"{reply.status} {reply.headers.get('x-remora-cache', '-')}"] += 1
        return reply

    def leave(self, key, prompt):
        """Asks, and goes away before the answer."""
        host, port = self.address.split(":")
        text = json.dumps(chat(prompt))
        with socket.create_connection((host, int(port)), timeout=10) as away:
            away.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
                         f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode())
            time.sleep(0.2)
        self.seen["left"] += 1


def zipf(chance, count):
    """A place in a list, the first ones far more often."""
    return min(int(count ** chance.random()), count) - 1


def question(chance):
    subject = SUBJECTS[zipf(chance, len(SUBJECTS))]
    order = chance.randint(1, 6) if chance.random() < 0.75 else chance.randint(1000, 9999)
    phrase = chance.choice(PHRASES).format(subject)
    return phrase if order < 4 else f"{phrase} (order {order})" if order > 6 else f"{phrase} in shop {order}"


def steady(client, number, until):
    """Those who ask what a support desk is asked."""
    chance = random.Random(number)
    keys = [("rk-web", "gpt-4o"), ("rk-batch", "gpt-4o-mini"), ("rk-helpdesk", "gpt-4o"), ("rk-helpdesk", "o4-mini"),
            ("rk-app", "gpt-4o-mini"), ("rk-research", "gpt-4o-mini")]
    while time.monotonic() < until:
        key, model = chance.choices(keys, [5, 3, 4, 1, 1, 1])[0]
        stream = chance.random() < 0.4
        client.ask(secret(key), chat(question(chance), model, stream=stream))
        time.sleep(chance.uniform(0, 0.1))


def odd(client, number, until):
    """Everything that is not usual, again and again, so that no series stands still."""
    chance, turn = random.Random(1000 + number), 0
    web, trial, app = secret("rk-web"), secret("rk-trial"), secret("rk-app")
    while time.monotonic() < until:
        turn += 1
        # Words that are not a number, or a guard would have a reason.
        new = "".join(chance.choice("abcdefghij") for _ in range(12))
        client.ask(app, chat(f"About {new}", "home-made-7b"))
        client.ask(trial, chat(question(chance), "gpt-4o", max_tokens=400))
        client.ask(trial, chat(f"Trial of {new}", "gpt-4o", max_tokens=400))
        client.ask(secret("rk-free"), chat(f"Free {new}"))
        client.ask("rk-nobody-knows-this-key", chat("Hello"))
        client.ask(web, chat(f"[fail] {new}"))
        client.ask(web, chat(f"[long] {new}", max_tokens=20))
        client.ask(web, chat(f"[silent] {new}"))
        client.ask(web, chat(question(chance)), cache_control="no-cache")
        client.ask(web, chat(question(chance)), cache_control="no-store")
        client.ask(web, chat(question(chance), n=2))
        client.ask(web, chat(question(chance), tools=[{"type": "function", "function": {"name": "look"}}]))
        client.ask(secret("rk-indexer"), {"model": "text-embedding-3-small", "input": [f"{new} {turn // 2}"]}, "/v1/embeddings")
        client.ask(web, chat(chance.choice(PHRASES).format(chance.choice(sorted(FICKLE)))))
        hit = client.ask(web, chat(chance.choice(PHRASES).format(SUBJECTS[0])))
        if hit and hit.headers.get("x-remora-request-id"):
            client.ask(web, {"request_id": hit.headers["x-remora-request-id"], "verdict": "good"}, "/v1/feedback")
        pair = [threading.Thread(target=Client(f"http://{client.address}", client.seen).ask, args=(web, chat(f"Together {new}")))
                for _ in range(2)]
        for one in pair:
            one.start()
        client.leave(web, f"[slow] {new}")
        for one in pair:
            one.join()


def secret(key):
    return f"{key}-0123456789abcdef"


def clients(seconds, urls):
    seen, until = Counter(), time.monotonic() + seconds
    threads = [threading.Thread(target=steady, args=(Client(urls[number % len(urls)], seen), number, until)) for number in range(8)]
    threads += [threading.Thread(target=odd, args=(Client(url, seen), number, until)) for number, url in enumerate(urls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(", ".join(f"{count} {what}" for what, count in sorted(seen.items())))


def main():
    what, *rest = sys.argv[1:]
    if what == "upstream":
        Server(("127.0.0.1", int(rest[0])), Provider).serve_forever()
    elif what == "clients":
        clients(float(rest[0]), rest[1:])
    elif what == "config":
        print(CONFIG.format(upstream=rest[0], **{name: f"{each * float(rest[1]):.4f}" for name, each in BUDGETS.items()}))


if __name__ == "__main__":
    main()
