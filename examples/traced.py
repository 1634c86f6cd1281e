"""Trace a workflow with OpenTelemetry: a span for each execution, step and task.

Where spans go is said once, when the program starts. Here they stay in memory and are
printed as a tree; a real program gives its provider an exporter, for instance OTLP's.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stepfunction import Context, RetryPolicy, StepFunction
from stepfunction.tracing import Tracing

tracer = trace.get_tracer("shop")


def pay(order: int, context: Context) -> str:
    if context.attempt == 1:
        raise ConnectionError("no answer")
    return "paid"


def ship(order: int) -> str:
    return "shipped"


def thank(done: dict[str, str]) -> str:
    with tracer.start_as_current_span("mail"):  # below the span of the step
        return ", ".join(done.values())


shop = StepFunction("Shop", listeners=[Tracing()])
shop.add_parallel_step(
    "Fulfil",
    {"pay": pay, "ship": ship},
    executor="inline",  # one after the other, so that this prints the same each time
    retry=RetryPolicy(interval=0.01),
    next_step="Thank",
)
shop.add_step("Thank", thank)
shop.set_start_step("Fulfil")


def show(
    spans: Sequence[ReadableSpan], parent: int | None = None, depth: int = 0
) -> None:
    for span in sorted(spans, key=lambda it: it.start_time or 0):
        if parent == (span.parent.span_id if span.parent else None):
            mark = "" if span.status.is_ok else f", {span.status.status_code.name}"
            print("  " * depth + span.name + mark)
            if span.context:
                show(spans, span.context.span_id, depth + 1)


def main() -> None:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    with tracer.start_as_current_span("request"):
        shop.execute(17)
    show(spans.get_finished_spans())


if __name__ == "__main__":
    main()
