"""The capture: feature events of the last stretch as a recorder would have kept them, one JSON object per line."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""Close of the first captured bar."""

BAR_MS = 1_000


def write(capture: dict[str, dict[str, np.ndarray]], seed: int, path: Path) -> int:
    """Writes one `market.features` event per bar and symbol and returns how many.

    Symbols close their one-second bars evenly staggered; an event reaches the stream a few milliseconds after.
    """
    rng = np.random.default_rng(seed)
    start_ms = int(START.timestamp()) * 1000
    stagger = BAR_MS // len(capture)
    bars = len(next(iter(next(iter(capture.values())).values())))
    lines = []
    for bar in range(bars):
        for place, (symbol, features) in enumerate(capture.items()):
            closed = start_ms + bar * BAR_MS + place * stagger
            arrived = closed + int(rng.integers(4, stagger // 2))
            payload = {
                "symbol": symbol,
                "timestamp": closed,
                "features": {name: float(values[bar]) for name, values in features.items()},
            }
            fields = {
                "event_type": "market.features",
                "payload": json.dumps(payload, separators=(",", ":"), allow_nan=False),
                "trace_id": rng.bytes(8).hex(),
                "source": "synthetic",
            }
            lines.append(json.dumps({"id": f"{arrived}-0", "fields": fields}, separators=(",", ":")))
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")
    return len(lines)


def read(path: Path) -> tuple[list[tuple[int, int]], dict[str, np.ndarray]]:
    """Ids as (ms, seq) and the features, `[events] f64` each, as they stand in the file.

    Raises `ValueError` if two events differ in the names of their features.
    """
    ids, rows = [], []
    for line in path.read_text(encoding="ascii").splitlines():
        event = json.loads(line)
        ms, seq = event["id"].split("-")
        ids.append((int(ms), int(seq)))
        rows.append(json.loads(event["fields"]["payload"])["features"])
        if rows[-1].keys() != rows[0].keys():
            raise ValueError(f"event {event['id']}: feature names differ from the first event's")
    return ids, {name: np.array([row[name] for row in rows]) for name in rows[0]}
