from django.db import models


class Order(models.Model):
    """Something that views and jobs write."""

    number = models.CharField(max_length=40)
    paid = models.BooleanField(default=False)
    lines = models.IntegerField(default=0)
