"""Where the views are."""

from django.urls import path
from shop import views

urlpatterns = [
    path("count-in-a-process", views.count_in_a_process),
    path("connections", views.tell_connections),
    path("hang/<str:kind>", views.hang),
    path("sell", views.sell),
    path("sell-async", views.sell_async),
    path("sell-async-steps", views.sell_with_async_steps),
    path("sell-async-async-steps", views.sell_async_with_async_steps),
    path("pid-of-a-worker", views.tell_worker),
    path("threads", views.tell_threads),
]
