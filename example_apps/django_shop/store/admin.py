from django.contrib import admin

from store.models import Invoice

admin.site.register(Invoice, list_display=["id", "customer", "cents", "made", "mailed", "paid"])
