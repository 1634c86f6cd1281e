PYTHON ?= python3
VENV ?= .venv
python := $(VENV)/bin/python

# What needs Django, Graphviz, a cluster or a whole environment is not of the core, and
# some of the rest takes long without depending on the version.
slow_core := core/engine/test_cancelled_anywhere.py core/engine/test_interrupts.py \
	core/lanes core/watching/test_events_of_nested.py \
	core/watching/test_events_of_random_workflows.py core/workers/test_heartbeat.py \
	stores/test_sqlite_interrupts.py
# A part of all tests each, by the time they take, most of which they wait; the rest is
# the fifth.
engine := core/engine core/workers
pages := contrib docs
wings := cli crash declarative drawing executors stores testing
apart := $(slow_core) $(engine) $(pages) $(wings)
without_slow := $(slow_core:%=--ignore=tests/%)
with_django := contrib test_django_page.py
not_core := cli contrib crash django docs drawing executors test_django_demo.py test_django_page.py \
	test_examples.py test_map_properties.py test_progress.py \
	test_progress_in_notebooks.py test_properties.py test_soak.py test_tracing.py

.PHONY: help demo django-demo pictures docs docs-open test test-core test-slow test-django test-all \
	stress soak lint check bench cover build clean
.NOTPARALLEL:
export NO_INSTALL

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.has-drawing ## run the car purchase workflow and draw it
	$(python) examples/car_purchase.py

django-demo: $(VENV)/.has-django $(VENV)/.has-drawing ## serve the demo of Django
	$(python) examples/django_project/manage.py migrate --verbosity 0
	$(python) examples/django_project/manage.py runserver

pictures: $(VENV)/.has-test ## make the pictures of the documents; needs Chromium
	$(python) docs/pictures.py

docs: $(VENV)/.has-docs ## build the site into build/docs; what is wrong with it is an error
	$(python) -m sphinx --fresh-env --fail-on-warning --keep-going --quiet \
		-d build/doctrees docs build/docs

docs-open: docs ## build the site and open it
	$(python) -m webbrowser build/docs/index.html

test: $(VENV)/.has-test $(VENV)/.has-browser ## run all tests, in five parts beside each other
	.ci/postgres .ci/side-by-side \
		"$(python) -m pytest $(apart:%=--ignore=tests/%)" \
		"$(python) -m pytest $(slow_core:%=tests/%)" \
		"$(python) -m pytest $(without_slow) $(engine:%=tests/%)" \
		"$(python) -m pytest $(pages:%=tests/%)" \
		"$(python) -m pytest $(without_slow) $(wings:%=tests/%)"

test-core: $(VENV)/.has-test-core ## run the tests that need no extra
	$(python) -m pytest --session-timeout=600 \
		$(not_core:%=--ignore=tests/%) $(slow_core:%=--ignore=tests/%)

test-slow: $(VENV)/.has-test-core ## run the core tests that take longer
	$(python) -m pytest --session-timeout=600 $(slow_core:%=tests/%)

test-django: $(VENV)/.has-test-django ## run the tests of Django; DJANGO='Django~=6.0.0' names one
	.ci/postgres $(python) -m pytest --session-timeout=600 $(with_django:%=tests/%)

test-all: ## run these three on every CPython from 3.11 up that is here
	.ci/test-all

stress: $(VENV)/.has-test-core ## run the concurrency tests 50 times, with all cores busy
	$(python) tests/stress.py

soak: $(VENV)/.has-test-core ## mix all that can happen to tasks for a minute
	SOAK_SECONDS=60 $(python) -m pytest -s tests/test_soak.py

crash: $(VENV)/.has-test-core ## kill stored executions at random moments, for five minutes
	CRASH_SECONDS=300 $(python) -m pytest -s --timeout=900 tests/crash

lint: $(VENV)/.has-dev ## flake8, isort, mypy, import-linter
	$(python) -m flake8
	$(python) -m isort --check .
	$(python) -m mypy
	$(VENV)/bin/lint-imports

check: lint test ## lint and test

bench: $(VENV)/.has-drawing ## measure; BENCH=--save keeps the table
	$(python) benchmarks $(BENCH)

cover: $(VENV)/.has-test ## run all tests and report what they reach
	$(python) -m coverage erase
	.ci/postgres $(python) -m coverage run -m pytest
	$(python) -m coverage combine --quiet
	$(python) -m coverage report

build: $(VENV)/.has-dev ## make the sdist and the wheel
	$(python) -m build

clean: ## remove all that these targets made
	rm -rf .venv* build dist *.egg-info .coverage* .hypothesis .*_cache
	rm -f car_purchase.db car_purchase.svg django_demo.db django_view.db
	find . -name __pycache__ -prune -exec rm -rf {} +

# Without a browser its tests are skipped, which CI does not allow.
$(VENV)/.has-browser: $(VENV)/.made .ci/browser
	-@.ci/browser && touch $@

# Stamps, so that a second run has nothing to install.
$(VENV)/.has-%: $(VENV)/.made setup.cfg setup.py
	$(python) -m pip install --quiet --disable-pip-version-check --editable '.[$*]' $(DJANGO)
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("stepfunction needs Python 3.11 or newer and $(PYTHON) is %d.%d: name another, as in make PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	@touch $@
