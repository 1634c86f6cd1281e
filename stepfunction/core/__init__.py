"""The core: everything that a workflow needs to run, and nothing else.

::

    step_function   build, compile, execute, draw: the front door
    engine/         how a graph runs: the loop, and what performing a step means
    transcript/     an execution as JSON, and back
    definition/     what a workflow is, and whether it is sound; nothing here runs
    watching/       who is told of an execution while it runs
    context         what a step's function may ask
    workers/        where calls are made: places, tries, limits of time
    history/        what happened: the execution, its journal and its records
    lanes/          worker processes that can be lost one at a time
    envelope/       how values cross between processes
    losses          the errors that are such of concurrent.futures too
    tracebacks      the way that an error took, without what was there
    errors          every exception
    cancellation  durations  frozen  keys  lapse  logger  members  misspelling
    namesake  outcomes  probes  raised  variables  waiting  wording
                    the ground that all of them stand on

What stands further down is imported by what stands above it, never the other way.
"""
