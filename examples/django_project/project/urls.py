from django.urls import path
from shop import views

urlpatterns = [
    path("", views.order, name="order"),
    path("checkout", views.checkout, name="checkout"),
    path("run/<slug:id>", views.run, name="run"),
]
