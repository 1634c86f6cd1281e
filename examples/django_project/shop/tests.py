"""Tests of the shop: in a ``TestCase`` all tasks run inline, in its transaction."""

from django.test import TestCase
from django.urls import reverse
from shop.models import Car, Invoice, Order, Parcel, Payment


class CheckoutTest(TestCase):
    def buy(self, **form):
        form = {"car": "Roadster", "customer": "Ada", "card": "4242", **form}
        return self.client.post(reverse("checkout"), form, follow=True)

    def test_a_good_card_buys_a_car(self):
        answer = self.buy()
        self.assertContains(answer, "COMPLETED")
        self.assertEqual(Order.objects.get().status, "paid")
        self.assertEqual(Car.objects.get(name="Roadster").in_stock, 2)
        self.assertEqual(Invoice.objects.get().number, 1001)

    def test_a_card_that_is_declined_leaves_nothing_behind(self):
        answer = self.buy(card="4000")
        self.assertContains(answer, "the card was declined")
        self.assertEqual(Order.objects.get().status, "refused")
        self.assertEqual(Car.objects.get(name="Roadster").in_stock, 3)
        self.assertTrue(Parcel.objects.get().is_cancelled)
        self.assertFalse(Payment.objects.exists())

    def test_the_last_car_is_sold_once(self):
        Car.objects.filter(name="Roadster").update(in_stock=1)
        self.buy()
        self.assertContains(self.buy(), "no Roadster is left")
        self.assertEqual(Car.objects.get(name="Roadster").in_stock, 0)
        self.assertTrue(Payment.objects.latest("id").is_refunded)

    def test_no_page_shows_the_number_of_a_card(self):
        self.assertNotContains(self.buy(), "4242")
