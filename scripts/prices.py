#!/usr/bin/env python3
"""Makes config/prices.json from the price list in a package of LiteLLM, whose facts it takes over for models that people use.

    pip download litellm==1.110.2 --no-deps --dest /tmp/litellm
    scripts/prices.py /tmp/litellm/litellm-1.110.2-*.whl 2026-11-26 > config/prices.json

The second argument is the day on which the package was the latest. What is left out: models that are not billed by tokens, prices of
zero (which may mean unknown), single prices that cannot be right (WRONG), models that search in every call, which is billed apart,
resellers of other providers' models, and how long the answers of open models can be (OPEN) where it seems too low: hosts change that.
Prices that the list has wrong and the provider's page right are in MENDED.
"""

import json
import re
import sys
import zipfile
from decimal import Decimal

# Our name: LiteLLM's names, the provider's own page, and which models (none: all).
PROVIDERS = {
    "openai": (["openai", "text-completion-openai"], "https://platform.openai.com/docs/pricing", r"(?!.*search)"),
    "anthropic": (["anthropic"], "https://docs.claude.com/en/docs/about-claude/pricing", None),
    "google": (["gemini"], "https://ai.google.dev/gemini-api/docs/pricing", None),
    "mistral": (["mistral"], "https://mistral.ai/pricing", r"(?!.*(zai|glm|deepseek))"),
    "deepseek": (["deepseek"], "https://api-docs.deepseek.com/quick_start/pricing", None),
    "groq": (["groq"], "https://groq.com/pricing", None),
    "xai": (["xai"], "https://docs.x.ai/docs/models", r"(?!.*(beta|gv2|multi-agent))"),
    "cohere": (["cohere", "cohere_chat"], "https://cohere.com/pricing", None),
    "together": (["together_ai"], "https://www.together.ai/pricing", r"(?!together/).*/"),
    "fireworks": (
        ["fireworks_ai"],
        "https://fireworks.ai/pricing",
        r"accounts/fireworks/models/(deepseek-[rv]|glm-|gpt-oss|kimi|minimax|llama-?[v4]|qwen3p)",
    ),
    "cerebras": (["cerebras"], "https://www.cerebras.ai/pricing", None),
    "moonshot": (["moonshot"], "https://platform.moonshot.ai/docs/pricing", None),
    "zai": (["zai"], "https://docs.z.ai/guides/overview/pricing", None),
    "minimax": (["minimax"], "https://platform.minimax.io/docs/guides/pricing", None),
    "voyage": (["voyage"], "https://docs.voyageai.com/docs/pricing", None),
}
# Sessions that are not requests, and video and pictures by piece.
MODES = {"chat", "completion", "responses", "embedding", "image_generation", "audio_transcription", "audio_speech", "rerank"}
NO_OUTPUT = {"embedding", "rerank", "moderation"}
WRONG = {"embed-multilingual-light-v3.0", "gemini-exp-1206", "ft:gpt-4o-2024-08-06", "gpt-4o-transcribe-diarize"}
# The page has one price for text and one for sound; the list has that of text for both.
MENDED = {
    "gpt-4o-transcribe": {"audio_input": "6.00"},
    "gpt-4o-mini-transcribe": {"audio_input": "3.00"},
}
# Who serves open models. A short answer in the list is often that of an early version; what `assumed_output` says is more careful.
OPEN = {"groq", "together", "fireworks", "cerebras", "deepseek", "minimax"}
SHORT = 32768
# Whose names are those of the models themselves, so that they say nothing of who serves them.
GENERAL = {"cerebras"}
KINDS = {
    "input_cost_per_token": "input",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
    "input_cost_per_request": "request",
}
SERVICES = {"_batches": "batch", "_flex": "flex", "_priority": "priority"}
DATED = re.compile(r"-(20\d\d-\d\d-\d\d|20\d{6}|\d{4}|latest)$")


def dollars(value, kind):
    """Dollars for one token as text of dollars for a million."""
    amount = Decimal(value) * (1 if kind == "request" else 10**6)
    whole, _, part = format(amount.normalize(), "f").partition(".")
    return f"{whole}.{part:0<2}"


def place(name):
    """The kind, tier of size and tier of service that a member of LiteLLM's form is about."""
    service = next((ours for end, ours in SERVICES.items() if name.endswith(end)), None)
    name = re.sub(r"_(batches|flex|priority)$", "", name)
    size = re.fullmatch(r"(.*)_above_(\d+)k_tokens", name)
    name, above = (size[1], int(size[2]) * 1000) if size else (name, None)
    return KINDS.get(name), above, service


def row(entry):
    """Our row of prices, in the order of KINDS, or none."""
    tables = {}
    for name, value in entry.items():
        kind, above, service = place(name)
        # Some lists write 0 for a cache that is written at the price of input.
        if kind and value is not None and not (kind == "cache_write" and not value):
            tables.setdefault((above, service), {})[kind] = dollars(value, kind)
    plain = tables.get((None, None), {})
    if "cache_read" not in plain and "input" in plain and Decimal(plain.get("cache_write", plain["input"])) < Decimal(plain["input"]):
        # Writing is never cheaper than not writing: it is the price of reading, in the wrong place.
        plain["cache_read"] = plain.pop("cache_write")
    made = {key: {kind: table[kind] for kind in KINDS.values() if kind in table} for key, table in tables.items()}
    base = made.get((None, None), {})
    if "input" in base and "output" not in base:
        other = base.get("image_output") or base.get("audio_output")
        base["output"] = other or ("0" if entry.get("mode") in NO_OUTPUT or "embed" in entry["mode"] else None)
    if not base.get("input") or not base.get("output"):
        return None
    for (above, service), table in made.items():
        hour = "cache_write_1h" in base or "cache_write_1h" in made.get((above, None), {})
        if service == "batch" and entry["litellm_provider"] == "anthropic" and hour and "input" in table:
            # "Multipliers stack with the batch discount": an hour's cache is twice the input there too, whatever the size.
            table.setdefault("cache_write_1h", dollars(Decimal(table["input"]) * 2 / 10**6, "cache_write_1h"))
    # Anthropic's fast mode is a multiple of the price of all tokens. Inference in the US, which stands there too, is in the program.
    fast = (entry.get("provider_specific_entry") or {}).get("fast")
    if fast:
        base["fast"] = {kind: dollars(Decimal(base[kind]) * Decimal(fast) / 10**6, kind) for kind in KINDS.values() if kind in base and kind != "request"}

    # A tier that says what the row says anyway says nothing.
    def differing(above, service):
        table = made.get((above, service), {})
        return {kind: price for kind, price in table.items() if above is not None or base.get(kind) != price}

    sizes = sorted({above for above, _ in made if above is not None})
    for above in sizes:
        tier = {"input_tokens": above, **differing(above, None)}
        tier.update({service: differing(above, service) for service in SERVICES.values() if differing(above, service)})
        base.setdefault("above", []).append(tier)
    base.update({service: differing(None, service) for service in SERVICES.values() if differing(None, service)})
    return base


def main():
    wheel, day = sys.argv[1:]
    package = re.search(r"litellm-([0-9.]+)-", wheel)[1]
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read("litellm/model_prices_and_context_window_backup.json")
    entries = json.loads(text, parse_float=Decimal)
    found = []
    for provider, (theirs, page, pattern) in PROVIDERS.items():
        models = {}
        for name, entry in entries.items():
            bare = re.sub(f"^({'|'.join(theirs)}|{provider})/", "", name)
            wanted = entry.get("litellm_provider") in theirs and entry.get("mode") in MODES and bare not in WRONG
            if not wanted or not re.match(pattern or "", bare) or bare in models:
                continue
            prices = row(entry)
            if prices and any(Decimal(prices[kind]) for kind in ("input", "output")):
                mended = MENDED.get(DATED.sub("", bare), {})
                assert all(prices[kind] != price for kind, price in mended.items()), f"{bare} needs no mending any more"
                longest = entry.get("max_output_tokens")
                if provider in OPEN and isinstance(longest, (int, Decimal)) and longest < SHORT:
                    longest = None
                models[bare] = ({**prices, **mended}, longest)
        for name, told in models.items():
            base = DATED.sub("", name)
            if base != name and models.get(base) == told:
                continue  # It stands with the model that it is a version of.
            versions = [other for other in models if other != name and DATED.sub("", other) == name and models[other] == told]
            names = [name, *versions]
            if provider in ("openai", "anthropic") and not DATED.search(name):
                names.append(f"{name}:*" if name.startswith("ft:") else f"{name}-20*")
            elif name.startswith("ft:"):
                names.append(f"{name}:*")
            found.append((provider, names, told[1], page, told[0]))

    # A name that two providers have says nothing of the price: it counts with the provider before it only.
    count = {}
    for _, names, *_ in found:
        for name in names:
            count[name] = count.get(name, 0) + 1
    lines = []
    for provider, names, longest, page, prices in found:
        names = [name if count[name] == 1 and provider not in GENERAL else f"{provider}/{name}" for name in names]
        model = {"provider": provider, "names": names}
        model.update({"max_output": int(longest)} if isinstance(longest, (int, Decimal)) else {})
        model.update({"source": page, "as_of": day, "prices": [prices]})
        lines.append("    " + json.dumps(model))
    head = {
        "version": day,
        "source": f"list prices in US dollars per million tokens, read by scripts/prices.py from LiteLLM {package} (MIT) on {day}; "
        "each model names its provider's own page",
    }
    print("{\n" + "".join(f"  {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items()), end="")
    print('  "models": [\n' + ",\n".join(lines) + "\n  ]\n}")


if __name__ == "__main__":
    main()
