import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

CASCADE, PROTECT = (
    django.db.models.deletion.CASCADE,
    django.db.models.deletion.PROTECT,
)


def key():
    """Give the field that Django gives a model by itself."""
    facts = {"auto_created": True, "primary_key": True, "serialize": False}
    return "id", models.BigAutoField(**facts, verbose_name="ID")


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Car",
            fields=[
                key(),
                ("name", models.CharField(max_length=50, unique=True)),
                ("price", models.PositiveIntegerField(help_text="in EUR")),
                ("in_stock", models.PositiveIntegerField()),
            ],
            options={"ordering": ["name"]},
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                key(),
                ("car", models.ForeignKey(on_delete=PROTECT, to="shop.car")),
                ("customer", models.CharField(max_length=100)),
                ("status", models.CharField(default="placed", max_length=20)),
                ("placed", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={"ordering": ["-placed"]},
        ),
        migrations.CreateModel(
            name="Invoice",
            fields=[
                key(),
                ("order", models.OneToOneField(on_delete=CASCADE, to="shop.order")),
                ("number", models.PositiveIntegerField(unique=True)),
                ("text", models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name="Parcel",
            fields=[
                key(),
                ("order", models.ForeignKey(on_delete=CASCADE, to="shop.order")),
                ("is_cancelled", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name="Payment",
            fields=[
                key(),
                ("order", models.ForeignKey(on_delete=CASCADE, to="shop.order")),
                ("amount", models.PositiveIntegerField()),
                ("is_refunded", models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name="Run",
            fields=[
                (
                    "id",
                    models.CharField(max_length=32, primary_key=True, serialize=False),
                ),
                (
                    "order",
                    models.ForeignKey(null=True, on_delete=CASCADE, to="shop.order"),
                ),
                ("ended", models.DateTimeField(default=django.utils.timezone.now)),
                ("document", models.TextField()),
            ],
            options={"ordering": ["-ended"]},
        ),
    ]
