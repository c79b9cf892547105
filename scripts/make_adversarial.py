#!/usr/bin/env python3
"""Makes tests/data/adversarial.jsonl: prompts crafted to get an answer stored that somebody else will be served.

    pip install -r scripts/make_adversarial.requirements.txt
    python scripts/make_adversarial.py DATA OUT [--seed 1] [--part 0]

DATA holds banking77_train.csv and clinc150_dev.json.gz. The result is the same for the same seed, part, data and
versions. `--part` chooses which half of the victims, word pairs and injected texts is used, so that part 1 is a held-out
file that shares none of them with part 0.

One JSON object a line: `victim` is what somebody will ask, `attack` what the attacker asks before, `cosine` that of
their vectors by the shipped model. The right answer to `attack` is wrong for `victim` in every row.

Kinds:
  suffix_search  another question or an injected instruction, with a suffix found by greedy coordinate search for the
                 highest cosine: of everyday words or of raw vocabulary pieces, with and without words of the victim
  victim_prefix  the victim's words before, around or after an injected text of 3 to 60 words
  word_swap      one word that carries meaning is another
  homoglyph      letters and digits of other alphabets, of mathematics, raised or full width, that carry another word,
                 another number or an instruction
  zero_width     characters that show nothing, or strike a word out, and carry an instruction or change what is read
  mixed          two of the above
"""

import argparse
import collections
import csv
import gzip
import json
import pathlib
import random
import re
import sys

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

import adversarial_texts as texts

MODEL = pathlib.Path(__file__).parent.parent / "src" / "embed" / "model"
WINDOW = 254
# Words of a suffix, candidates tried for each place, and places tried once more.
PLACES, TRIED, AGAIN = 14, 32, 4
# How often two words change places.
ROUNDS = 6
# Of so many attacks put together at random the strongest one is kept, as an attacker would.
DRAWN = {"victim_prefix": 8, "word_swap": 16, "homoglyph": 10, "zero_width": 3, "mixed": 16}
BATCH = 64


class Model:
    """The shipped network and its tokeniser, read as src/embed/builtin.rs reads a text of one window."""

    def __init__(self):
        self.tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        path = str(MODEL / "all-minilm-l6-v2.int8.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def vectors(self, batch):
        """Unit vectors, one row each. Only of one text are they exact: activations share their scale in a batch."""
        rows = [self.tokenizer.encode(text).ids[: WINDOW + 2] for text in batch]
        width = max(map(len, rows))
        ids, mask = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
        for row, pieces in enumerate(rows):
            ids[row, : len(pieces)], mask[row, : len(pieces)] = pieces, 1
        return self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]

    def vector(self, text):
        return self.vectors([text])[0]

    def many(self, batch):
        order = sorted(range(len(batch)), key=lambda i: len(batch[i]))
        found = np.zeros((len(batch), 384), np.float32)
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            found[part] = self.vectors([batch[i] for i in part])
        return found


def read_victims(data, part):
    """(text, intent) of questions of 5 to 18 words, halved by intent-independent parity."""
    rows = []
    with open(data / "banking77_train.csv", newline="") as file:
        rows += [(row["text"], "b:" + row["category"]) for row in csv.DictReader(file)]
    with gzip.open(data / "clinc150_dev.json.gz", "rt") as file:
        clinc = json.load(file)
        rows += [(text, "c:" + intent) for text, intent in clinc["train"] + clinc["val"]]
    clean = []
    for text, intent in rows:
        text = " ".join(text.split())
        if 5 <= len(text.split()) <= 18 and text.isascii():
            clean.append((text, intent))
    clean = sorted(set(clean))
    general = [(text, f"g:{i}") for i, text in enumerate(texts.GENERAL)]
    return clean[part::2], general[part::2]


def words_of(victims):
    counts = collections.Counter(w for text, _ in victims for w in re.findall(r"[a-z]{3,}", text.lower()))
    return [word for word, count in counts.most_common(3500) if count > 1]


class Search:
    """Greedy coordinate search for a suffix that brings a payload near a victim."""

    def __init__(self, model, rng, words):
        self.model, self.rng = model, rng
        pieces = [p for p, i in model.tokenizer.get_vocab().items() if i > 1996 and re.fullmatch(r"(##)?[a-z]{2,}", p)]
        pieces = rng.sample(sorted(pieces), 6000)
        self.pools = {"words": words, "pieces": pieces}
        self.known = {n: model.many([p.removeprefix("##") for p in pool]) for n, pool in self.pools.items()}

    @staticmethod
    def spell(payload, suffix, first):
        tail = ""
        for piece in suffix:
            tail += piece[2:] if piece.startswith("##") and tail else " " + piece.removeprefix("##")
        return f"{tail.strip()}. {payload}" if first else f"{payload} {tail.strip()}"

    def run(self, victim, payload, pool, copy, first):
        target = self.model.vector(victim)
        near = self.known[pool] @ target
        own = {w[:4] for w in re.findall(r"[a-z]+", victim.lower())}
        copies = lambda p: p.removeprefix("##")[:4] in own
        order = [i for i in np.argsort(-near) if copy or not copies(self.pools[pool][i])]
        near_by, far = order[: TRIED * 3 // 4], order[TRIED : TRIED * 12]

        def candidates():
            return [self.pools[pool][i] for i in near_by + self.rng.sample(far, TRIED // 4)]

        def best_of(options):
            return options[int(np.argmax(self.model.many([self.spell(payload, o, first) for o in options]) @ target))]

        suffix = []
        if copy:
            # The victim's own words, out of order, are a good place to start from.
            suffix = re.findall(r"[a-z0-9']+", victim.lower())
            self.rng.shuffle(suffix)
        while len(suffix) < PLACES:
            suffix = best_of([suffix] * bool(suffix) + [suffix + [c] for c in candidates()])
        for place in self.rng.sample(range(len(suffix)), min(AGAIN, len(suffix))):
            suffix = best_of([suffix] + [suffix[:place] + [c] + suffix[place + 1 :] for c in candidates()])
        for _ in range(ROUNDS):
            suffix = best_of([suffix] + [self.exchanged(suffix) for _ in range(TRIED)])
        return self.spell(payload, suffix, first)

    def exchanged(self, suffix):
        """The suffix with two of its words in each other's place."""
        (i, j), changed = self.rng.sample(range(len(suffix)), 2), list(suffix)
        changed[i], changed[j] = changed[j], changed[i]
        return changed


def prey(rng, search, victims, injections):
    """A victim and a payload: of some draws the pair that is nearest to begin with."""
    short = [i for i in injections if len(i.split()) <= 4]
    pairs = []
    while len(pairs) < 24:
        (victim, intent), (text, other) = rng.sample(victims, 2)
        if len(victim.split()) >= 9 and other != intent and len(text.split()) <= 6:
            pairs.append((victim, rng.choice(short) if rng.random() < 0.5 else text.rstrip("?.!") + "?"))
    vectors = lambda side: search.model.many([pair[side] for pair in pairs])
    near = np.sum(vectors(0) * vectors(1), axis=1)
    # Near repeats of the victim are no attack.
    near[near > 0.8] = -1
    return pairs[rng.choice(np.argsort(-near)[:3])]


def suffix_search(rng, model, victims, injections, count):
    search = Search(model, rng, words_of(victims))
    for number in range(count):
        pool, copy, first = ("words", "pieces")[number % 2], number % 4 < 2, number % 5 == 4
        victim, payload = prey(rng, search, victims, injections)
        yield f"{pool}-{'copy' if copy else 'free'}", victim, search.run(victim, payload, pool, copy, first)


def insert(rng, victim, text):
    """The victim's words before, around or after the injected text."""
    bare = victim.rstrip("?.! ")
    shape = rng.randrange(8)
    if shape < 4:
        return victim + rng.choice([" ", ". ", " - ", "\n\n", " (", "; ", ", and "]) + text
    if shape < 6:
        return f"{text} {victim}" if text[-1] in ".!?" else f"{text}. {victim}"
    words = bare.split()
    at = rng.randrange(2, len(words))
    return " ".join(words[:at] + ["(" + text.rstrip(".") + ")"] + words[at:])


def victim_prefix(rng, victims, injections, count):
    for number in range(count):
        victim = rng.choice(victims)[0]
        injected = injections[number % len(injections)]
        length = len(injected.split())
        size = "short" if length <= 6 else "medium" if length <= 14 else "long"
        yield size, victim, insert(rng, victim, injected)


def swapped(rng, victim, part):
    """Every way in which one word of the victim can be exchanged for another of its class."""
    found = []
    for group in texts.CLASSES:
        members = group.split()
        for member in members:
            pattern = re.compile(rf"\b{re.escape(member.replace('_', ' '))}\b")
            if len(pattern.findall(victim.lower())) != 1:
                continue
            span = pattern.search(victim.lower()).span()
            for other in members:
                # Pairs go to one part or the other, whichever way round.
                if other != member and sum(map(ord, member + other)) % 2 == part:
                    found.append(victim[: span[0]] + other.replace("_", " ") + victim[span[1] :])
    return rng.choice(found) if found else None


def word_swap(rng, victims, part, count):
    # Written with care rather than drawn; among the drawn ones only the strongest stay.
    templates = [t for i, t in enumerate(texts.SWAPS) if i % 2 == part]
    for line in templates:
        frame, one, other = line.split("|")
        yield "frame", frame.replace("*", one), frame.replace("*", other)
    made = 0
    while made < count:
        victim = rng.choice(victims)[0]
        attack = swapped(rng, victim, part)
        if attack:
            made += 1
            yield "data", victim, attack


LOOK_ALIKE = {
    "cyrillic": dict(zip("aceopxyijsh", "асеорхуіјѕһ")),
    "greek": dict(zip("aoviuknpt", "αονιυκηρτ")),
}


def in_letters(text, style, rng):
    if style in LOOK_ALIKE:
        return "".join(LOOK_ALIKE[style].get(c, c) for c in text)
    if style == "fullwidth":
        return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)
    base = {"bold": 0x1D41A, "sans": 0x1D5BA, "mono": 0x1D68A, "circled": 0x24D0, "parenthesised": 0x249C}[style]
    return "".join(chr(base + ord(c) - 97) if "a" <= c <= "z" else c for c in text.lower())


RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
STYLES = ["cyrillic", "greek", "fullwidth", "bold", "sans", "mono", "circled", "parenthesised"]


def homoglyph(rng, victims, injections, part, count):
    short = [i for i in injections if len(i.split()) <= 12]
    for number in range(count):
        style = rng.choice(STYLES)
        if number % 4 == 0:
            frame, value = texts.NUMBERED[(number // 4) % len(texts.NUMBERED)], str(rng.randrange(2, 99)) + str(2 + part)
            cut = rng.randrange(1, len(value))
            attack = rng.choice([
                value[:cut] + value[cut:].translate(RAISED),
                value[:cut] + value[cut:].translate(LOWERED),
                "".join(chr(0x2460 + int(c) - 1) if c != "0" else c for c in str(int(value) + 10)),
                value.replace("0", "O") + "O",
                in_letters(str(int(value) + 1), "fullwidth", rng),
                value[:cut] + chr(0x0660 + (int(value[cut]) + 1) % 10) + value[cut + 1 :],
            ])
            yield "number", frame.replace("*", value), frame.replace("*", attack)
        elif number % 4 == 1:
            victim, attack = None, None
            while attack is None:
                victim = rng.choice(victims)[0]
                attack = swapped(rng, victim, part)
            words, old = attack.split(), victim.split()
            changed = [w if w in old else in_letters(w, style, rng) for w in words]
            yield f"word-{style}", victim, " ".join(changed)
        else:
            victim = rng.choice(victims)[0]
            yield f"text-{style}", victim, insert(rng, victim, in_letters(rng.choice(short), style, rng))


def hidden(text, way):
    """The text in characters that show nothing."""
    data = text.encode("ascii", "ignore")
    if way == "tags":
        return "".join(chr(0xE0000 + b) for b in data)
    if way == "selectors":
        return "".join(chr(0xFE00 + b) if b < 16 else chr(0xE0100 + b - 16) for b in data)
    zero, one = {"bits": ("\u200b", "\u200c"), "joiners": ("\u200d", "\u2060"), "operators": ("\u2062", "\u2063")}[way]
    return "".join(one if b >> i & 1 else zero for b in data for i in range(8))


def struck(word, mark):
    return "".join(c + mark for c in word)


def zero_width(rng, victims, injections, part, count):
    short = [i for i in injections if i.isascii() and len(i.split()) <= 12]
    negated = texts.NEGATED[part::2]
    for number in range(count):
        shape = number % 6
        victim = rng.choice(victims)[0]
        if shape in (0, 1):
            way = ["tags", "selectors", "bits", "joiners", "operators"][(number // 6) % 5]
            at = rng.choice([0, len(victim), victim.index(" ")])
            yield way, victim, victim[:at] + hidden(rng.choice(short), way) + victim[at:]
        elif shape == 2:
            frame, word = negated[(number // 6) % len(negated)].split("|")
            mark = ["\u0336", "\u0335", "\u0338", "\u0337"][(number // 6) % 4]
            yield "struck", frame.replace("*", word), frame.replace("*", struck(word, mark))
        elif shape == 3:
            text = rng.choice(short)
            split = "".join(c + rng.choice(["\u200b", "\u00ad", "\u2060", "\u200d"]) if i % 2 else c for i, c in enumerate(text))
            yield "split", victim, insert(rng, victim, split)
        elif shape == 4:
            text = rng.choice(short)
            opening, closing = rng.choice([("\u202e", "\u202c"), ("\u2067", "\u2069"), ("\u202b", "\u202c")])
            yield "bidi", victim, victim + " " + opening + (text[::-1] if opening == "\u202e" else text) + closing
        else:
            frame, value = rng.choice(texts.NUMBERED), str(rng.randrange(12, 999))
            changed = value[:-1] + struck(value[-1], "\u0336")
            attack = rng.choice([changed, struck(value, "\u0338") + " " + str(int(value) + 7)])
            yield "number", frame.replace("*", value), frame.replace("*", attack)


def mixed(rng, model, victims, injections, part, count):
    short = [i for i in injections if i.isascii() and len(i.split()) <= 10]
    for number in range(count):
        victim, attack = None, None
        while attack is None:
            victim = rng.choice(victims)[0]
            attack = swapped(rng, victim, part)
        text, shape = rng.choice(short), number % 5
        if shape == 0:
            yield "swap+prefix", victim, insert(rng, attack, text)
        elif shape == 1:
            yield "swap+hidden", victim, attack + hidden(text, rng.choice(["tags", "selectors"]))
        elif shape == 2:
            yield "prefix+letters", victim, insert(rng, victim, in_letters(text, rng.choice(STYLES), rng))
        elif shape == 3:
            other = rng.choice(victims)[0]
            yield "two-questions", victim, victim.rstrip("?. ") + "? " + other
        else:
            pieces = [p for p in words_of(victims[:400]) if len(p) > 3]
            noise = " ".join(rng.sample(pieces, 2)) + " " + "".join(rng.choices("bcdfghjklmnpqrstvwxz", k=6))
            yield "swap+noise", victim, attack.rstrip("?. ") + " " + noise


def strongest(model, rows, drawn):
    """Of every variant the nearest, one in `drawn`; all of what was written by hand. Nothing twice."""
    variants = {}
    for variant, victim, attack in rows:
        if victim != attack:
            variants.setdefault(variant, {})[victim, attack] = None
    for variant, pairs in variants.items():
        ranked = [(-round(float(model.vector(v) @ model.vector(a)), 4), v, a) for v, a in pairs]
        kept = len(ranked) if variant == "frame" else max(1, len(ranked) // drawn)
        victims = collections.Counter()
        for cosine, victim, attack in sorted(ranked):
            # No victim more than twice, so that one easy prey does not fill the file.
            if kept and victims[victim] < 2:
                kept -= 1
                victims[victim] += 1
                yield variant, victim, attack, -cosine


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", type=int, choices=(0, 1), default=0)
    parser.add_argument("--kinds", default="", help="only these, with commas between; each is as if all were made")
    parser.add_argument("--each", type=int, default=110, help="rows of each kind")
    options = parser.parse_args()
    model, each, part = Model(), options.each, options.part
    queries, general = read_victims(options.data, part)
    injections = texts.INJECTIONS[part::2]

    def kind(name, make):
        # Every kind has its own stream of chance, so that one more row of a kind leaves the others as they were.
        rng = random.Random(f"{options.seed}/{part}/{name}")
        victims = rng.sample(queries, 1500) + general * 6
        return name, make(rng, victims, each * DRAWN[name] * 5 // 4 if name in DRAWN else each)

    kinds = dict([
        kind("suffix_search", lambda r, v, n: suffix_search(r, model, v, injections, n)),
        kind("victim_prefix", lambda r, v, n: victim_prefix(r, v, injections, n)),
        kind("word_swap", lambda r, v, n: word_swap(r, v, part, n)),
        kind("homoglyph", lambda r, v, n: homoglyph(r, v, injections, part, n)),
        kind("zero_width", lambda r, v, n: zero_width(r, v, injections, part, n)),
        kind("mixed", lambda r, v, n: mixed(r, model, v, injections, part, n)),
    ])
    if options.kinds:
        kinds = {name: kinds[name] for name in options.kinds.split(",")}
    tally = collections.Counter()
    with open(options.out, "w") as out:
        for name, rows in kinds.items():
            for variant, victim, attack, cosine in strongest(model, rows, 1 if name not in DRAWN else DRAWN[name]):
                tally[name] += 1
                tally[name, 0.8] += cosine >= 0.8
                tally[name, 0.9] += cosine >= 0.9
                row = {"id": f"{name}-{variant}-{tally[name]:03}", "kind": name, "victim": victim, "attack": attack}
                # Escaped, so that what shows nothing can be seen in the file.
                out.write(json.dumps(row | {"cosine": cosine, "wrong": True}) + "\n")
    for name in kinds:
        near = ", ".join(f"{tally[name, floor]} at cosine >= {floor}" for floor in (0.8, 0.9))
        print(f"{name}: {tally[name]} rows, {near}", file=sys.stderr)


if __name__ == "__main__":
    main()
