from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST
from shop.models import Car, Order, Run
from shop.workflows import checkout as checkout_workflow

from stepfunction import CompensationError, Execution, StepExecutionError

CARDS = {
    "4242": "a card that is good",
    "4000": "a card that the bank declines",
}


def order(request):
    """Show what there is to buy, and what was bought."""
    orders = Order.objects.select_related("car").prefetch_related("run_set")[:20]
    page = {"cars": Car.objects.all(), "cards": CARDS, "orders": orders}
    return render(request, "shop/order.html", page)


@require_POST
def checkout(request):
    """Buy a car, and show how that went."""
    form = {name: request.POST.get(name, "") for name in ("car", "customer", "card")}
    try:
        execution = checkout_workflow.execute(form)
    except (StepExecutionError, CompensationError) as error:
        execution = error.execution
    placed = execution.context.get("Place_Order")
    Run.objects.create(
        id=execution.id,
        order_id=placed["id"] if isinstance(placed, dict) else None,
        document=execution.to_json(),
    )
    return redirect("run", execution.id)


def run(request, id):
    """Show what the workflow did."""
    kept = get_object_or_404(Run, id=id)
    page = {"execution": Execution.from_json(kept.document), "order": kept.order}
    return render(request, "shop/run.html", page)
