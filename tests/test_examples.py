from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import pytest

import stepfunction

EXAMPLES = Path(__file__).parents[1] / "examples"
PACKAGE_HOME = str(Path(stepfunction.__file__).parents[1])


@pytest.fixture
def run(tmp_path):
    def run(*arguments: str | Path) -> str:
        path = os.pathsep.join((PACKAGE_HOME, str(EXAMPLES)))
        done = subprocess.run(
            [sys.executable, "-W", "error", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def select(tmp_path):
    def select(columns_and_table: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(tmp_path / "car_purchase.db")) as connection:
            return connection.execute(f"SELECT {columns_and_table}").fetchall()

    return select


def test_every_example_is_tested():
    named = re.findall(r'"(\w+\.py)"', Path(__file__).read_text(encoding="utf-8"))
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(named)


def test_car_purchase_gives_an_account_of_three_purchases(run):
    assert run(EXAMPLES / "car_purchase.py") == dedent("""\
        COMPLETED: Parse > Check > Update_Records > Update_Status > Notify
        COMPLETED: Parse > Check > Notify
        FAILED: Parse > Check > Update_Records > Handle_Failure
          1 of 3 tasks of step 'Update_Records' failed: 'inventory': \
LookupError: the car is sold out
        shipping
          (1, 'Bergen', 'go')
        payment
          (1, 42000)
        inventory
          ('Roadster', 0)
        outbox
          ('ada@example.org', 1, 'Your purchase is sold.')
          ('ada@example.org', 2, 'Your purchase is invalid.')
          ('ada@example.org', 3, 'Your purchase is cancelled.')
        Picture: car_purchase.svg
        """)


def test_car_purchase_leaves_the_records_of_the_good_purchase_alone(run, select):
    run(EXAMPLES / "car_purchase.py")
    assert select("* FROM shipping") == [(1, "Bergen", "go")]
    assert select("* FROM payment") == [(1, 42_000)]
    assert select("* FROM inventory") == [("Roadster", 0)]


def test_car_purchase_writes_to_every_customer(run, select):
    run(EXAMPLES / "car_purchase.py")
    assert select("number, message FROM outbox") == [
        (1, "Your purchase is sold."),
        (2, "Your purchase is invalid."),
        (3, "Your purchase is cancelled."),
    ]


def test_car_purchase_draws_its_picture(run, tmp_path):
    run(EXAMPLES / "car_purchase.py")
    picture = ElementTree.parse(tmp_path / "car_purchase.svg")
    texts = picture.iter("{http://www.w3.org/2000/svg}text")
    drawn = {"".join(text.itertext()).strip() for text in texts}
    assert drawn >= {"Car_Purchase", "Update_Records", "payment", "valid", "invalid"}


def test_car_purchase_can_run_again(run):
    assert run(EXAMPLES / "car_purchase.py") == run(EXAMPLES / "car_purchase.py")


def test_cpu_bound_prints_the_speed_up_that_it_measured(run):
    inline, pooled, speed_up = run(EXAMPLES / "cpu_bound.py").splitlines()
    alone = re.fullmatch(r"inline: +63951 primes in ([\d.]+) s", inline)
    together = re.fullmatch(r"in processes: +63951 primes in ([\d.]+) s", pooled)
    ratio = re.fullmatch(r"([\d.]+) times as fast, on \d+ CPUs, start.*", speed_up)
    assert alone and together and ratio
    # The times are printed with two digits, so their ratio is a little off.
    expected = pytest.approx(float(alone[1]) / float(together[1]), rel=0.1, abs=0.1)
    assert float(ratio[1]) == expected


def test_retry_calls_again_only_what_is_worth_it(run):
    assert run(EXAMPLES / "retry.py") == dedent("""\
        Bergen: COMPLETED, 'It rains in Bergen.'
          attempt 1: the line is dead
          attempt 2: the line is dead
          attempt 3: an answer
        Atlantis: FAILED, 'No forecast: there is no Atlantis.'
          attempt 1: there is no Atlantis
        """)


def test_poll_until_done_looks_until_the_job_has_ended(run):
    assert run(EXAMPLES / "poll_until_done.py") == dedent("""\
        Metropolis: COMPLETED, Metropolis.mp4
          6 steps, then Ask > Wait > Ask > Download
        Lost: FAILED, Job.Failed: the service could not read the film
          2 steps, then Ask > Wait > Ask > Give_Up
        Endless: TIMED_OUT, execution of 'Transcode' took longer than 1.5 s
        """)


def test_durable_goes_on_where_the_program_was_killed(run):
    assert run(EXAMPLES / "durable.py") == dedent("""\
          order-17: paid 99
          order-17: handed to the depot
        killed
          order-17: the depot has it
          COMPLETED: told the customer of parcel of order-17
        ended
          COMPLETED: told the customer of parcel of order-17
        ended
        step 'Look_Up' of 'Letters' failed: LookupError: nobody knows where to
        COMPLETED: told the customer of {'id': 18, 'city': 'Oslo'}
        """)


def test_nested_shows_the_executions_inside_executions(run):
    assert run(EXAMPLES / "nested.py") == dedent("""\
        Dinner: COMPLETED, 'half cut washed apple and cut washed apple'
          Salad: COMPLETED, 'half cut washed apple'
            Prepare: COMPLETED, 'cut washed apple'
          Prepare: COMPLETED, 'cut washed apple'
        Salad: FAILED, 'no salad: nobody can cut a washed stone'
          Prepare: FAILED, None
        """)


def test_named_inputs_shows_what_each_step_was_given(run):
    assert run(EXAMPLES / "named_inputs.py") == dedent("""\
        20.00 EUR are 22.00 USD
          Parse was given '20'
          Fetch_Rate was given {'amount': 20.0}
          Price was given {'order': {'amount': 20.0}, 'rate': 1.1}
          Invoice was given {'order': {'amount': 20.0}, 'total': 22.0}
        workflow 'Short_Cut': 2 problems
          - step 'Price': inputs['order'] takes the output of 'Parse', but 'Parse' \
(failed) → 'Price' leads here without it; a step that failed has no output
          - step 'Price': inputs['rate'] takes the output of 'Fetch_Rate', but \
'Parse' (failed) → 'Price' leads here without it; lead every path through \
'Fetch_Rate', or name a step that is on all of them
        """)


def test_declarative_runs_a_workflow_that_is_json(run):
    assert run(EXAMPLES / "declarative.py") == dedent("""\
        COMPLETED: {'payment': '16 paid', 'parcel': 'packed'}
        COMPLETED: a clerk will call
        FAILED: sorry: KeyError('Ulysses')
        the same: True
        document: steps.Sell.func.payment: unknown function 'chargee' \
(did you mean 'charge'?)
        """)


def test_listeners_prints_what_happens_and_counts_failures(run):
    assert run(EXAMPLES / "listeners.py") == dedent("""\
        Shop: execution_started
        Parse: step_started
        Parse: step_succeeded
        Sell: step_started
        ship: task_started
        ship: task_succeeded
        pay: task_started
          Payment: execution_started
          Charge: step_started
          Charge: step_retried (the bank does not answer)
          Charge: step_failed (the bank does not answer)
          Payment: execution_ended (the bank does not answer)
        pay: task_failed (task 'pay' of step 'Sell': nested workflow 'Payment' failed \
at its step 'Charge': ConnectionError: the bank does not answer)
        Sell: step_succeeded
        Shop: execution_ended
        failures: {'Payment.Charge': 2}
        """)


# Settings are made once in a process, so each of these tests has a process of its own.
DJANGO_CLIENT = """\
import django_view as project
from django.test import Client

def post(**order):
    response = client.post("/", order)
    print(response.status_code, response.json())

def in_stock():
    print(project.Car.objects.get().in_stock, "in stock")

client = Client()
project.prepare_database()
"""


def test_django_view_sells_a_car(run):
    printed = run("-c", DJANGO_CLIENT + 'post(car="Roadster", card="4242")')
    assert printed == "201 {'sold': 'Roadster', 'left': 1}\n"


def test_django_view_answers_a_failed_order_with_a_conflict(run):
    printed = run("-c", DJANGO_CLIENT + 'post(car="Flivver", card="4242")')
    assert printed == """409 {'refused': "no 'Flivver' is left"}\n"""


def test_django_view_rolls_a_failed_order_back(run):
    script = 'post(car="Roadster", card="1"); in_stock()'
    assert run("-c", DJANGO_CLIENT + script) == (
        "409 {'refused': 'the card was declined'}\n2 in stock\n"
    )


def test_django_view_serves_one_order_after_the_other(run):
    script = 'for _ in range(3): post(car="Roadster", card="4242")'
    assert run("-c", DJANGO_CLIENT + script) == (
        "201 {'sold': 'Roadster', 'left': 1}\n"
        "201 {'sold': 'Roadster', 'left': 0}\n"
        """409 {'refused': "no 'Roadster' is left"}\n"""
    )


def test_django_view_takes_orders_by_post_alone(run):
    assert run("-c", DJANGO_CLIENT + 'print(client.get("/").status_code)') == "405\n"


def test_django_view_is_a_sound_project(run):
    printed = run(EXAMPLES / "django_view.py", "check")
    assert printed == "System check identified no issues (0 silenced).\n"


def test_dask_cluster_estimates_pi_on_two_workers(run):
    if find_spec("distributed") is None:
        pytest.skip("distributed is not installed")
    assert run(EXAMPLES / "dask_cluster.py") == dedent("""\
        player 1: 156860 of 200000 darts hit
        player 2: 157245 of 200000 darts hit
        player 3: 156891 of 200000 darts hit
        player 4: 156955 of 200000 darts hit
        COMPLETED: pi is about 3.1398
        """)


def test_progress_tells_a_file_what_its_workflow_did(run, tmp_path):
    code = dedent(f"""\
        import runpy, sys
        with open("log.txt", "w") as sys.stderr:
            runpy.run_path({str(EXAMPLES / "progress.py")!r}, run_name="__main__")
        """)
    assert run("-c", code) == "published here and there\n"
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    lines = re.sub(r" in [\d.]+ [mµ]?s", "", log).splitlines()
    assert lines[:3] == [
        "Album / Fetch: attempt 1 is followed by another: ConnectionError: no answer",
        "Album / Fetch succeeded, 2 attempts",
        "Album / Shrink.picture 7 failed: ValueError: picture 7 is damaged",
    ]
    assert sorted(lines[4:8]) == [
        f"Album / Publish.{place} / {step} succeeded"
        for place in ("here", "there")
        for step in ("Sort", "Upload")
    ]
    assert lines[-1] == "Album COMPLETED"


WITHOUT_DASK = """\
import sys
sys.modules["distributed"] = None
import dask_cluster
try:
    dask_cluster.main()
except SystemExit as end:
    print(end)
"""


def test_dask_cluster_says_what_to_install_where_dask_is_missing(run):
    assert run("-c", WITHOUT_DASK) == (
        "This example needs Dask: pip install distributed\n"
    )


def test_run_picture(run, tmp_path):
    lines = run(EXAMPLES / "run_picture.py").splitlines()
    assert lines[3] == "flowchart TB"
    assert lines[-2:] == [
        "Picture: car_purchase_run.svg",
        "Report: car_purchase_run.html",
    ]
    picture = (tmp_path / "car_purchase_run.svg").read_text(encoding="utf-8")
    assert "1 of 3 failed: inventory (LookupError)" in picture
    report = (tmp_path / "car_purchase_run.html").read_text(encoding="utf-8")
    assert "car_purchase.py&quot;, line" in report or 'car_purchase.py", line' in report
    assert str(EXAMPLES) not in report


def test_map_items_counts_words_and_tolerates_empty_texts(run):
    assert run(EXAMPLES / "map_items.py") == dedent("""\
        Count: 4000 items are done
        'the' is there 3000 times; 1000 texts were empty
        """)


def test_compensation_gives_trips_up_and_says_what_could_not_be_undone(run):
    assert run(EXAMPLES / "compensation.py") == dedent("""\
        Oslo: COMPLETED, 'paid for hotel in Oslo, car in Oslo'
        Oslo: FAILED, None
          car: cancelled car in Oslo
          hotel: cancelled hotel in Oslo
          Book_Flight: cancelled flight to Oslo
        Venice: FAILED, None
          hotel: cancelled hotel in Venice
          Book_Flight: cancelled flight to Venice
        Call them yourself: 1 compensation of 'Book_Trip' failed: task 'hotel' of \
step 'Book_Stay': HotelError: nobody answers in Rome
        Rome: FAILED, None
          car: cancelled car in Rome
          hotel: nobody answers in Rome
          Book_Flight: cancelled flight to Rome
        """)


def test_testing_a_workflow(run):
    assert run(EXAMPLES / "testing_a_workflow.py") == dedent("""\
        3 tests, 0 failed

        step 'Reserve' of 'Checkout' failed: LookupError: sold out
        'Checkout' took another path, and is COMPLETED:

          expected   taken
          Reserve    Reserve     SUCCEEDED
        - Pay
        +            Charge      FAILED: OSError: away
        +            Apologise   SUCCEEDED

        'Pay' is no step of 'Checkout'

        an input was changed in place, which others have too: other tasks, the next \
attempt, the history
          task 'cheapest' of step 'Look' of 'Prices': input['prices'][0] was 3 and \
is 1; input['prices'][1] was 1 and is 2; input['prices'][2] was 2 and is 3
        let a call change a copy, or return what is new
        """)


def test_the_tests_of_testing_a_workflow_are_found_by_unittest(run):
    run("-m", "unittest", "testing_a_workflow")


def test_loan_grants_refuses_asks_and_apologises(run):
    assert run(EXAMPLES / "loan.py") == dedent("""\
        COMPLETED: {'answer': 'granted', 'days': 14}
        COMPLETED: a clerk looks at 6 points
        FAILED: Loan.Refused, too few points
        FAILED: Score is out of order: ZeroDivisionError('float division by zero')
        """)


def test_surroundings_carry_the_tenant(run):
    assert run(EXAMPLES / "surroundings.py") == dedent("""\
        acme charged 40 €
        acme packed order 17
        acme packed order 18
        """)


def test_etl_loads_the_good_files_and_says_what_was_wrong_with_the_bad(run, tmp_path):
    printed = """\
        3 rows of 2 files, 2 rejected
        empty: ValueError('there is nothing in it')
        typo: ValueError("could not convert string to float: 'warm'")
        """
    assert run(EXAMPLES / "etl.py") == dedent(printed)
    assert sorted(path.name for path in (tmp_path / "inbox").iterdir()) == [
        "bergen.csv",
        "oslo.csv",
    ]


def test_urls_asks_busy_servers_again_and_does_without_a_page(run):
    assert run(EXAMPLES / "urls.py") == dedent("""\
        19,887 bytes of 199 pages; failed: {13: <HTTPError 404: 'Not Found'>}
        20 pages were asked for more than once
        """)


def test_images_shrinks_all_but_those_that_fail_or_crash(run):
    assert run(EXAMPLES / "images.py").splitlines() == [
        *(f"sunset{number}: 100 x 60" for number in range(4)),
        "bomb: WorkerCrashedError",
        "broken: ValueError",
    ]


def test_nightly_does_a_night_once(run, tmp_path):
    (tmp_path / "sales-2026-11-27.txt").write_text("3\n4\n")
    for _ in range(2):
        printed = run(EXAMPLES / "nightly.py", "2026-11-27")
        assert printed == "2026-11-27: 2 sales, 7 in all\n"
        (tmp_path / "sales-2026-11-27.txt").unlink(missing_ok=True)


def test_long_loop_goes_round_a_hundred_thousand_times_in_little_memory(run):
    assert run(EXAMPLES / "long_loop.py") == dedent("""\
        booked 300,000
        99,991 steps, of which 10 are kept
        less than a megabyte: True
        """)


def test_traced_shows_the_spans_of_a_request(run):
    assert run(EXAMPLES / "traced.py") == dedent("""\
        request
          execution Shop
            step Fulfil
              task pay
                attempt 1, ERROR
                attempt 2
              task ship
            step Thank
              mail
        """)


def test_yaml_workflow(run):
    assert run(EXAMPLES / "yaml_workflow.py") == dedent("""\
        COMPLETED: {'payment': '16 paid', 'parcel': 'packed for 16'}
        COMPLETED: a clerk will call
        FAILED: sorry: KeyError('Ulysses')
        the same: True
        document: line 14, column 24: steps.Price.params.discount: no is false to some \
and a text to others; write false, or "no" in quotes
        document: line 46, column 9: workflows.Parcel.steps.Pack.func: unknown \
function 'pakc' (did you mean 'pack'?)
        """)


def test_the_yaml_workflow_is_run_by_the_command(run):
    names = ("--registry", EXAMPLES / "yaml_workflow.py", "--input", '["Emma"]')
    flow = EXAMPLES / "checkout.yaml"
    said = run("-m", "stepfunction", "run", flow, *names)
    assert said == '{"payment": "7 paid", "parcel": "packed for 7"}\n'
