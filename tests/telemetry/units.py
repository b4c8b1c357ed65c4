"""Numbers and times as Grafana shows them."""

import math
from datetime import UTC, datetime

RATES = {"reqps": " req/s", "ops": " ops/s", "mps": " msg/s"}
SECONDS = [(1e-6, 1e-9, "ns"), (1e-3, 1e-6, "µs"), (1, 1e-3, "ms"), (60, 1, "s"), (3600, 60, "mins"), (86400, 3600, "hours"),
           (math.inf, 86400, "days")]
LARGE = [(1e9, " Bil"), (1e6, " Mil"), (1e3, " K")]


def digits(value):
    """Three that count, and no zeros at the end."""
    if value == 0:
        return "0"
    decimals = min(6, max(0, 2 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def shown(value, unit):
    if math.isinf(value):
        return "+Inf"
    if unit == "percentunit":
        return digits(value * 100) + "%"
    if unit == "s":
        below = next(one for one in SECONDS if abs(value) < one[0]) if value else SECONDS[3]
        return f"{digits(value / below[1])} {below[2]}"
    for size, name in LARGE:
        if abs(value) >= size:
            return digits(value / size) + name + RATES.get(unit, "")
    return digits(value) + RATES.get(unit, "")


def clock(at, seconds=False):
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S" if seconds else "%H:%M")
