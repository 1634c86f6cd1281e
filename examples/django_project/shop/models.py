from django.db import models
from django.utils.timezone import now


class Car(models.Model):
    name = models.CharField(max_length=50, unique=True)
    price = models.PositiveIntegerField(help_text="in EUR")
    in_stock = models.PositiveIntegerField()

    class Meta:
        ordering = ["name"]

    def __str__(self):
        return self.name


class Order(models.Model):
    car = models.ForeignKey(Car, models.PROTECT)
    customer = models.CharField(max_length=100)
    status = models.CharField(max_length=20, default="placed")
    placed = models.DateTimeField(default=now)

    class Meta:
        ordering = ["-placed"]


class Payment(models.Model):
    order = models.ForeignKey(Order, models.CASCADE)
    amount = models.PositiveIntegerField()
    is_refunded = models.BooleanField(default=False)


class Parcel(models.Model):
    order = models.ForeignKey(Order, models.CASCADE)
    is_cancelled = models.BooleanField(default=False)


class Invoice(models.Model):
    order = models.OneToOneField(Order, models.CASCADE)
    number = models.PositiveIntegerField(unique=True)
    text = models.TextField()


class Run(models.Model):
    """What a workflow did, as ``execution.to_json()`` tells it."""

    id = models.CharField(max_length=32, primary_key=True)
    order = models.ForeignKey(Order, models.CASCADE, null=True)
    ended = models.DateTimeField(default=now)
    document = models.TextField()

    class Meta:
        ordering = ["-ended"]
