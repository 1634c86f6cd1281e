from django.db import migrations

CARS = (("Flivver", 9_000, 5), ("Roadster", 42_000, 3), ("Wagon", 28_000, 1))


def add_cars(apps, schema_editor):
    car = apps.get_model("shop", "Car")
    car.objects.bulk_create(
        car(name=name, price=price, in_stock=count) for name, price, count in CARS
    )


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(add_cars, migrations.RunPython.noop)]
