from django import forms
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from store.models import Invoice
from store.tasks import send_email, send_invoice
from sync_kit_django import exclusive, rate_limited


class SignUp(UserCreationForm):  # type: ignore[type-arg] # Django's takes none when it runs
    email = forms.EmailField()

    class Meta:
        model = User
        fields = ("username", "email")


class Order(forms.Form):
    cents = forms.IntegerField(min_value=1, max_value=1_000_000)


@rate_limited("5/minute", methods=["POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    form = SignUp(request.POST or None)
    if not form.is_valid():
        return render(request, "store/form.html", {"form": form, "title": "Sign up"})
    with transaction.atomic():
        user = form.save()
        # sent when the transaction has ended well, so the worker finds the user; not sent at all if it is rolled back
        send_email.send(to=user.email, subject="Welcome", body=f"Hello {user.username}!\n")
    login(request, user)
    return redirect("home")


@login_required
def home(request: HttpRequest) -> HttpResponse:
    invoices = Invoice.objects.filter(customer=request.user)
    return render(request, "store/home.html", {"invoices": invoices, "form": Order()})


@login_required
@require_POST
@rate_limited("20/minute", key="user")
def order(request: HttpRequest) -> HttpResponse:
    form = Order(request.POST)
    if not form.is_valid():
        return render(request, "store/form.html", {"form": form, "title": "Order"}, status=400)
    with transaction.atomic():
        invoice = Invoice.objects.create(customer=request.user, cents=form.cleaned_data["cents"])
        send_invoice.send(invoice=invoice.pk)
    return redirect("home")


@exclusive("report:<year>")
def report(request: HttpRequest, year: int) -> HttpResponse:
    """Adds up a year; only one process does at a time, the others are told 409 and when to try again."""
    year_of = Invoice.objects.filter(made__year=year)
    return JsonResponse({"year": year, **year_of.aggregate(invoices=Count("id"), cents=Sum("cents", default=0))})


@rate_limited("10/second")
async def status(request: HttpRequest) -> HttpResponse:
    """An async view: nothing here waits on a thread but the database."""
    return JsonResponse({"unmailed": await Invoice.objects.filter(mailed=None).acount()})
