"""The jobs of the shop. Every `tasks.py` is found by itself."""

from django.core.mail import EmailMessage, send_mail
from django.utils import timezone
from pydantic import BaseModel

from store.models import Invoice
from sync_kit import Backoff, Job
from sync_kit_django import Jobs

jobs = Jobs("shop")
FROM = "shop@example.com"


class Email(BaseModel):
    to: str
    subject: str
    body: str


class InvoiceToSend(BaseModel):
    invoice: int  # the key, not the model: the job reads what is in the database when it runs


@jobs.task(schema=Email, retries=5, backoff=Backoff(1, max=60))
def send_email(email: Email) -> None:
    send_mail(email.subject, email.body, FROM, [email.to])


@jobs.task(schema=InvoiceToSend, retries=5, backoff=Backoff(1, max=60), key=lambda sent: str(sent.invoice))
def send_invoice(sent: InvoiceToSend, job: Job) -> None:
    """Mail an invoice once: a job may run twice, so the database knows what was done, and the mail has the job's id."""
    invoice = Invoice.objects.select_related("customer").get(pk=sent.invoice)
    if invoice.mailed is not None:
        return
    EmailMessage(
        f"Your invoice {invoice.pk}",
        f"Total {invoice.cents / 100:.2f} EUR\n",
        FROM,
        [invoice.customer.email],
        headers={"Message-ID": f"<{job.id}@shop.example.com>"},
    ).send()
    invoice.mailed = timezone.now()
    invoice.save(update_fields=["mailed"])


@jobs.cron("0 3 * * *", tz="Europe/Vienna")
def remind() -> None:
    """Every night: a mail for each invoice that nobody has paid."""
    for invoice in Invoice.objects.filter(paid=False).select_related("customer"):
        send_email.send(
            to=invoice.customer.email,
            subject=f"Invoice {invoice.pk} is not paid yet",
            body=f"{invoice.cents / 100:.2f} EUR\n",
        )
