"""The few shapes that most queries have."""

T = 'tenant=~"$tenant"'
TM = 'tenant=~"$tenant",model=~"$model"'
# Audits of hits are counted among the requests, and nobody has sent them.
SENT = ',outcome!="audit"'


def pick(metric, labels=""):
    return f"remora_{metric}{{{labels}}}" if labels else f"remora_{metric}"


def summed(inner, by=""):
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"


def rate(metric, labels="", by=""):
    """Events a second over all replicas."""
    return summed(f"rate({pick(metric, labels)}[$__rate_interval])", by)


def grown(metric, labels="", by=""):
    """Events in the chosen range, over all replicas."""
    return summed(f"increase({pick(metric, labels)}[$__range])", by)


def new(metric, labels, by, since):
    """Rare events since then. `increase` misses the first of each series, which begins with it; this takes none for zero."""
    now = pick(metric, labels)
    return summed(f"clamp_min({now} - ({now} offset {since} or 0 * {now}), 0)", by)


def or_zero(expr):
    """A series that does not exist yet has counted nothing. `on ()`: only then is there a zero beside it."""
    return f"({expr} or on () vector(0))"


def share(part, whole):
    """A part of a whole; nothing where there is no whole, instead of 0/0."""
    return f"{or_zero(part)} / ({whole} > 0)"


def quantile(q, metric, labels="", by=""):
    by = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, {rate(metric + '_bucket', labels, by)})"


def quantiles(metric, labels=""):
    """Median, 95th and 99th percentile of a histogram, with legends."""
    return [(quantile(q, metric, labels), f"p{q * 100:.0f}") for q in (0.5, 0.95, 0.99)]


def same(metric, labels="", by=""):
    """A gauge that every replica exports alike."""
    return f"max by ({by}) ({pick(metric, labels)})" if by else f"max({pick(metric, labels)})"
