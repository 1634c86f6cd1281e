"""Workers: where calls are made; knows calls, nothing of workflows.

Tasks and a place for them come in: this thread, a pool of threads, lanes, somebody
else's executor. Each task comes out with how it ended, tried again and timed.
"""
