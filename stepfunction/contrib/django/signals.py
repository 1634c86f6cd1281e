"""Signals: what Django tells its receivers of executions.

They are sent robustly, by the thread that runs the outermost execution: what a receiver
raises is logged, and changes nothing.
"""

from __future__ import annotations

from typing import Any

from django.dispatch import Signal

from stepfunction.core.step_function import StepFunction
from stepfunction.core.watching.events import Event
from stepfunction.core.watching.telling import listen_everywhere

# The names that somebody listens to: a signal asks for the identity of a sender.
_names: dict[str, str] = {}


def _sender(given: Any) -> Any:
    """Give what stands for a workflow: its name, always the same object."""
    name = given.name if isinstance(given, StepFunction) else given
    return _names.setdefault(name, name) if isinstance(name, str) else name


def _known(name: str) -> str:
    return _names.get(name, name)


class WorkflowSignal(Signal):
    """A signal whose senders are workflows, or their names.

    Receivers are given the ``sender``, which is the name of the workflow, its
    ``execution`` (None where that runs in another process), and the ``event``.
    """

    def connect(self, receiver: Any, sender: Any = None, *args: Any, **kw: Any) -> None:
        """Have a receiver called, for all workflows or for one of this name."""
        listen_everywhere(_send, True, _any_receivers)
        super().connect(receiver, _sender(sender), *args, **kw)

    def disconnect(
        self, receiver: Any = None, sender: Any = None, *args: Any, **kw: Any
    ) -> Any:
        """Have a receiver called no more, as it was connected."""
        return super().disconnect(receiver, _sender(sender), *args, **kw)

    def has_listeners(self, sender: Any = None) -> Any:
        """Tell whether anybody is told of a workflow."""
        return super().has_listeners(_sender(sender))

    def tell(self, event: Event) -> None:
        """Send it to all receivers, whatever they raise.

        Args:
            event: What happened.
        """
        sender = _known(event.workflow)
        self.send_robust(sender, execution=event.execution, event=event)


execution_started = WorkflowSignal()
step_ended = WorkflowSignal()
execution_ended = WorkflowSignal()


def _any_receivers() -> object:
    """Give something if anybody would be told of anything; else None."""
    signals = (execution_started, step_ended, execution_ended)
    return True if any(signal.receivers for signal in signals) else None


def _send(event: Event) -> None:
    """Send the signal that an event calls for, if any does."""
    if event.subject == "execution":
        (execution_ended if event.status is not None else execution_started).tell(event)
    elif event.subject == "step" and event.duration is not None:
        step_ended.tell(event)
