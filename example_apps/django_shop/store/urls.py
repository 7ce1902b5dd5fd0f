from django.urls import path

from store import views

urlpatterns = [
    path("", views.home, name="home"),
    path("sign-up/", views.sign_up, name="sign-up"),
    path("order/", views.order, name="order"),
    path("reports/<int:year>/", views.report, name="report"),
    path("status/", views.status, name="status"),
]
