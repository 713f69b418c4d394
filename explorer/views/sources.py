"""One dictionary: figures, densities, and the filterable list of its features."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

from csp.decorators import csp_update
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from explorer import charts
from features import selectors
from features.results import SourceFilters
from inference.errors import InvalidInput

STATES = (("", "all"), ("alive", "alive"), ("dead", "dead"), ("dense", "dense"))
ORDERS = (
    ("index", "index"),
    ("-density", "most frequent"),
    ("density", "rarest"),
    ("-maximum", "strongest"),
    ("entropy", "fewest tokens"),
    ("-entropy", "most tokens"),
)
BY_SHARE = ("-share", "most on the token")
# Name, sort key, CSS class of each column; None cannot be sorted.
COLUMNS = (
    ("index", "index", "c-index"),
    ("label", None, ""),
    ("peaks on", "entropy", "c-peaks"),
    ("promotes", None, "c-promoted"),
    ("density", "density", "n c-density"),
    ("max", "maximum", "n c-max"),
)
SHARE = ("on the token", "share", "n c-share")


@csp_update({"style-src": ["'unsafe-inline'"]})  # Plotly styles its own elements
@require_safe
def source(request: HttpRequest, model: str, source: str) -> HttpResponse:
    """Show a dictionary; htmx gets the list alone."""
    filters = filters_from(request.GET)
    page = selectors.source_page(model, source, filters)
    context = {
        "source": page.source,
        "filters": page.filters,
        "filtered": bool(_query(filters, sort=first_order(filters), page=1)),
        "page": page.features,
        "sorts": sort_links(page.source.url, page.filters),
        **page_links(page.source.url, page.filters, page.features.number, page.features.n_pages),
    }
    if request.htmx:
        return render(request, "_source_list.html", context)
    context |= {
        "densities": page.densities,
        "l0": page.l0,
        "errors": page.errors,
        "median_error": charts.median_of(page.errors) if page.errors else None,
        "figure": charts.density_figure(page.densities) if page.densities else None,
        "corpora": selectors.corpora() if request.user.is_authenticated else (),
        "dead_share": (page.source.dead or 0) / page.source.n_features,
        "states": STATES,
        "orders": (BY_SHARE, *ORDERS) if page.filters.token else ORDERS,
        "crumbs": [(model, f"/{model}"), (source, "")],
        "tool_query": urlencode({"model": model, "source": source}),
    }
    return render(request, "source.html", context)


@require_safe
def source_token(request: HttpRequest, model: str, source: str) -> HttpResponse:
    """Show, as a fragment of the list, which features fire most on the tokens that read like `token`."""
    text = request.GET.get("token", "")[:80]
    if not request.htmx:
        return redirect(f"{reverse('source', args=[model, source])}?{urlencode({'token': text})}")
    card, tokens = selectors.tokens_firing(model, source, text)
    return render(request, "_token_features.html", {"source": card, "tokens": tokens})


def first_order(filters: SourceFilters) -> str:
    """Return how a list is ordered unless something else is asked."""
    return "-share" if filters.token else "index"


def filters_from(params: QueryDict) -> SourceFilters:
    """Read the filters of a query string.

    Raises:
        InvalidInput: where a value is not one that the filter can have.
    """
    sort, state = params.get("sort", ""), params.get("state", "")
    if sort and sort.removeprefix("-") not in SourceFilters.SORTS:
        raise InvalidInput(f"Features cannot be sorted by {sort[:40]!r}.", f"Use {', '.join(SourceFilters.SORTS)}.")
    if state not in SourceFilters.STATES:
        raise InvalidInput(f"There is no state {state[:40]!r}.", "Use alive, dead or dense.")
    filters = SourceFilters(
        text=params.get("text", "").strip()[:200],
        token=params.get("token", "")[:80],
        density_low=_share(params, "min_density"),
        density_high=_share(params, "max_density"),
        state=state,
        group=_group(params),
        page=_page(params),
    )
    return replace(filters, sort=sort or first_order(filters))


def sort_links(url: str, filters: SourceFilters) -> list[dict[str, str]]:
    """Return the heads of columns; a click sorts, a second click turns the order around."""
    heads = []
    for name, key, css in (*COLUMNS[:-2], SHARE, *COLUMNS[-2:]) if filters.token else COLUMNS:
        direction = {key: "ascending", f"-{key}": "descending"}.get(filters.sort, "") if key else ""
        first = key if key in ("index", "entropy") else f"-{key}"
        other = {key: f"-{key}", f"-{key}": key}.get(filters.sort, first)
        link = f"{url}?{urlencode(_query(filters, sort=other, page=1))}" if key else ""
        heads.append({"name": name, "css": css, "direction": direction, "url": link})
    return heads


def page_links(url: str, filters: SourceFilters, number: int, n_pages: int) -> dict[str, str]:
    """Return the addresses of the pages before and after."""

    def link(page: int) -> str:
        return f"{url}?{urlencode(_query(filters, sort=filters.sort, page=page))}"

    return {
        "previous_page": link(number - 1) if number > 1 else "",
        "next_page": link(number + 1) if number < n_pages else "",
    }


def _query(filters: SourceFilters, *, sort: str, page: int) -> dict[str, str]:
    pairs = {
        "text": filters.text,
        "token": filters.token,
        "min_density": "" if filters.density_low is None else f"{filters.density_low:g}",
        "max_density": "" if filters.density_high is None else f"{filters.density_high:g}",
        "state": filters.state,
        "group": "" if filters.group is None else str(filters.group),
        "sort": "" if sort == first_order(filters) else sort,
        "page": "" if page == 1 else str(page),
    }
    return {name: value for name, value in pairs.items() if value}


def _share(params: QueryDict, name: str) -> float | None:
    raw = params.get(name, "").strip()
    if not raw:
        return None
    try:
        value = float(raw)
    except ValueError as error:
        raise InvalidInput(f"{raw[:40]!r} is not a density.", "Write a share of tokens such as 0.001.") from error
    if not 0 <= value <= 1:
        raise InvalidInput(f"A density is a share of tokens, so {raw[:40]} is none.", "Write 0 to 1.")
    return value


def _group(params: QueryDict) -> int | None:
    raw = params.get("group", "").strip()
    if not raw:
        return None
    if not (raw.isascii() and raw.isdigit() and len(raw) < 6):
        raise InvalidInput(f"{raw[:40]!r} is not a group.", "Write its number, from 0.")
    return int(raw)


def _page(params: QueryDict) -> int:
    raw = params.get("page", "1")
    return min(int(raw), 10**6) if raw.isascii() and raw.isdigit() and len(raw) < 8 else 1
