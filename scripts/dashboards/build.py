#!/usr/bin/env python3
"""Writes the Grafana dashboards, or checks that the committed ones are what this would write.

    scripts/dashboards/build.py            writes dashboards/{cost,cache,limits,service}.json
    scripts/dashboards/build.py --check    fails and names each file that is not up to date
"""

import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import cache  # noqa: E402
import cost  # noqa: E402
import limits  # noqa: E402
import service  # noqa: E402

TARGET = HERE.parent.parent / "dashboards"


def main():
    stale = []
    for module in (cost, cache, limits, service):
        path = TARGET / f"{module.__name__}.json"
        text = json.dumps(module.board().json(), indent=1, ensure_ascii=False) + "\n"
        if "--check" in sys.argv[1:]:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(path.name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"{', '.join(stale)}: not what scripts/dashboards/build.py makes; change that, run it, and commit both")


if __name__ == "__main__":
    main()
