"""Drawing: workflows and their executions as pictures, trees of text and reports.

In come a frozen graph and, of a run, its execution, which ``trail`` follows along the
graph; ``picture`` decides what is drawn, with what ``captions`` has to say of each kind
of step. Out go texts and files: ``dot`` (with ``layout``), ``mermaid`` and ``tree``
write a picture down, ``report`` a page with a ``timeline``.
"""
