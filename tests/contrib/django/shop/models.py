"""Models: a car that is in stock, and an order of one."""

from django.db import models


class Car(models.Model):
    name = models.CharField(max_length=50, unique=True)
    in_stock = models.PositiveIntegerField(default=0)


class Order(models.Model):
    car = models.ForeignKey(Car, models.CASCADE)
    card = models.CharField(max_length=50)
