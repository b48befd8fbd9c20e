"""A histogram of latencies with bounded relative error, like HdrHistogram's: 64 buckets to each doubling (≤ 1.6 %)."""

import math

_SUB = 64
_LOWEST_US = 1.0


class Histogram:
    """Counts of durations from 1 µs up; two of them can be added."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0
        self.max_s = 0.0

    def record(self, seconds: float) -> None:
        """Counts one duration."""
        us = max(seconds * 1e6, _LOWEST_US)
        bucket = math.ceil(math.log2(us) * _SUB)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.count += 1
        self.max_s = max(self.max_s, seconds)

    def add(self, other: "Histogram") -> None:
        """Adds what another histogram counted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.count += other.count
        self.max_s = max(self.max_s, other.max_s)

    def quantile_ms(self, q: float) -> float | None:
        """The smallest bucket bound that at least a share `q` does not exceed, in milliseconds; None when empty."""
        left = math.ceil(q * self.count)
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return round(min(2 ** (bucket / _SUB) / 1000, self.max_s * 1000), 3)
        return None

    def summary(self) -> dict[str, float | int | None]:
        """Count, p50, p90, p99, p99.9 and the maximum in milliseconds."""
        return {
            "count": self.count,
            "p50_ms": self.quantile_ms(0.5),
            "p90_ms": self.quantile_ms(0.9),
            "p99_ms": self.quantile_ms(0.99),
            "p999_ms": self.quantile_ms(0.999),
            "max_ms": round(self.max_s * 1000, 3),
        }

    def curve(self) -> list[tuple[float, float]]:
        """(milliseconds, share of durations not above) for a picture."""
        seen, points = 0, []
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            points.append((2 ** (bucket / _SUB) / 1000, seen / self.count))
        return points
