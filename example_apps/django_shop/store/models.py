from django.conf import settings
from django.db import models


class Invoice(models.Model):
    """What a customer has to pay."""

    customer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    cents = models.PositiveIntegerField()
    made = models.DateTimeField(auto_now_add=True)
    mailed = models.DateTimeField(null=True, blank=True)
    paid = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"Invoice {self.pk}"
