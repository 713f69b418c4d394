"""Lists of features."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views import View

from features import selectors, services


class Lists(View):
    """All lists; posting makes one."""

    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "lists.html", {"lists": selectors.lists(request.user), "place": "lists"})

    @method_decorator(login_required)
    def post(self, request: HttpRequest) -> HttpResponse:
        made = services.lists.create(user=request.user, name=request.POST.get("name", ""))
        return redirect(reverse("list", args=[made.pk]))


class OneList(View):
    """One list; its owner renames or deletes it."""

    def get(self, request: HttpRequest, list_id: int) -> HttpResponse:
        raw = request.GET.get("page", "1")
        number = int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 8 else 1
        page = selectors.feature_list(list_id, request.user, page=number)
        shown = page.features
        context = {
            "page": page,
            "place": "lists",
            "previous_page": f"?page={shown.number - 1}" if shown.number > 1 else "",
            "next_page": f"?page={shown.number + 1}" if shown.number < shown.n_pages else "",
            "crumbs": [("Lists", "/lists"), (page.card.name, "")],
        }
        return render(request, "list.html", context)

    @method_decorator(login_required)
    def post(self, request: HttpRequest, list_id: int) -> HttpResponse:
        if request.POST.get("change") == "delete":
            services.lists.delete(user=request.user, list=list_id)
            messages.success(request, "The list is deleted.")
            return redirect("lists")
        services.lists.rename(
            user=request.user,
            list=list_id,
            name=request.POST.get("name", ""),
            description=request.POST.get("description", ""),
        )
        return redirect(reverse("list", args=[list_id]))
