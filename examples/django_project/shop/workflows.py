"""The workflows of the shop, which ``manage.py stepfunction_list`` lists.

Steps that write run in the thread of the request, each in a transaction of its own.
What can be done at the same time is done in threads, which have connections of their
own; the app closes them.
"""

from django.db.models import F, Max
from shop.bank import CardError, charge
from shop.labels import draw_label
from shop.models import Car, Invoice, Order, Parcel, Payment

from stepfunction import RetryPolicy, StepFunction
from stepfunction.contrib.django import transactional


@transactional()
def place_order(form):
    car = Car.objects.get(name=form["car"])
    order = Order.objects.create(car=car, customer=form["customer"])
    return {"id": order.id, "car": car.name, "price": car.price, "card": form["card"]}


# --- at the same time ---------------------------------------------------------------


def pay(order):
    receipt = charge(order["card"], order["price"])
    payment = Payment.objects.create(order_id=order["id"], amount=receipt["amount"])
    return payment.id


def refund(payment_id):
    Payment.objects.filter(id=payment_id).update(is_refunded=True)


def take_from_stock(order):
    cars = Car.objects.filter(name=order["car"], in_stock__gt=0)
    if not cars.update(in_stock=F("in_stock") - 1):
        raise LookupError(f"no {order['car']} is left")
    return order["car"]


def put_back(car):
    Car.objects.filter(name=car).update(in_stock=F("in_stock") + 1)


def book_parcel(order):
    return Parcel.objects.create(order_id=order["id"]).id


def cancel_parcel(parcel_id):
    Parcel.objects.filter(id=parcel_id).update(is_cancelled=True)


# --- the invoice, a workflow of its own ---------------------------------------------


@transactional()
def number_invoice(given):
    order = given["order"]
    last = Invoice.objects.aggregate(last=Max("number"))["last"] or 1000
    invoice = Invoice.objects.create(order_id=order["id"], number=last + 1)
    return {**order, "invoice": invoice.number}


def write_invoice(order):
    text = f"Invoice {order['invoice']}: 1 {order['car']}, {order['price']} EUR"
    Invoice.objects.filter(number=order["invoice"]).update(text=text)
    return text


invoice = StepFunction("Invoice")
invoice.add_step("Number", number_invoice, "Write")
invoice.add_step("Write", write_invoice)
invoice.set_start_step("Number")


# --- the end ------------------------------------------------------------------------


@transactional()
def confirm(order, label, invoice):
    Order.objects.filter(id=order["id"]).update(status="paid")
    return {"order": order["id"], "label": label, "invoice": invoice}


def refuse(error, context):
    order = context["Place_Order"]
    Order.objects.filter(id=order["id"]).update(status="refused")
    first = error.__cause__ or error
    return {"order": order["id"], "reason": str(first)}


checkout = StepFunction("Checkout")
checkout.add_step("Place_Order", place_order, "Fulfil")
checkout.add_parallel_step(
    "Fulfil",
    {"payment": pay, "stock": take_from_stock, "shipping": book_parcel},
    retry=RetryPolicy(max_attempts=3, interval=0.05, retry_on=ConnectionError),
    compensate={"payment": refund, "stock": put_back, "shipping": cancel_parcel},
    next_step="Label",
    on_failure={CardError: "Refuse", LookupError: "Refuse"},
)
checkout.add_step(
    "Label",
    draw_label,
    "Invoice",
    executor="process",
    timeout=30,
    inputs={"order": "Place_Order"},
)
checkout.add_sub_step_function(
    "Invoice", invoice, "Confirm", inputs={"order": "Place_Order"}
)
checkout.add_step(
    "Confirm",
    confirm,
    inputs={"order": "Place_Order", "label": "Label", "invoice": "Invoice"},
)
checkout.add_step("Refuse", refuse)
checkout.set_start_step("Place_Order")
