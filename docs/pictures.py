"""Make the pictures of README and site anew: `make pictures`.

Each is what a program of the documents draws, so none shows what the library does not.
Needs Graphviz, as `visualize()` does, and for the report Chromium.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from shared.pages import Page  # noqa: E402

from stepfunction.drawing.layout import laid_out  # noqa: E402

EXAMPLES = ROOT / "examples"
REPORT = "examples/car_purchase_report.png"
BROWSER = "chromium"
# A window that is as high as the report, of which nothing is to be cut off.
AS_A_BROWSER_SHOWS_IT = ("--hide-scrollbars", "--window-size=1100,1950")


def run(program: Path, *arguments: str, folder: Path) -> None:
    path = os.pathsep.join(map(str, (ROOT, EXAMPLES)))
    subprocess.run(
        [sys.executable, str(program), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def car_purchase(folder: Path) -> Path:
    """Draw the workflow of the example."""
    run(EXAMPLES / "car_purchase.py", folder=folder)
    return folder / "car_purchase.svg"


def car_purchase_run(folder: Path) -> Path:
    """Draw its run that fails half-way, and write the report of it."""
    run(EXAMPLES / "run_picture.py", "run.svg", "report.html", folder=folder)
    return folder / "run.svg"


def car_purchase_report(folder: Path) -> Path:
    """Take a picture of that report, as a browser shows it."""
    car_purchase_run(folder)
    quiet = ("--headless=new", "--no-sandbox", "--disable-background-networking")
    shot = "--screenshot=report.png"
    subprocess.run(
        [BROWSER, *quiet, *AS_A_BROWSER_SHOWS_IT, shot, "report.html"],
        cwd=folder,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return folder / "report.png"


def drawn_by(page: str, picture: str) -> Callable[[Path], Path]:
    """Give what runs the first program of a page, and takes a picture that it draws."""

    def draw(folder: Path) -> Path:
        program = Page.read(ROOT / "docs" / page).programs[0]
        script = folder / "program.py"
        script.write_text(program.source, encoding="utf-8")
        run(script, folder=folder)
        return folder / picture

    return draw


def how_it_works(folder: Path) -> Path:
    """Draw how a value travels from one thread or process to another."""
    path = folder / "how_it_works.svg"
    path.write_bytes(laid_out(HOW_A_VALUE_TRAVELS, "svg"))
    return path


GREY = "#7b8794"
INBOX = "a Report in the inbox\\l"
BACK = "back: answers.open_answer, a Report\\l"
PACKED = "back: Speaker.answer, envelope.pack_parcel\\l"
HOW_A_VALUE_TRAVELS = f"""\
digraph travel {{
compound=true; bgcolor="transparent"; fontname="Helvetica"; fontsize=13;
fontcolor="{GREY}"; ranksep=0.55; nodesep=0.45; tooltip="How a value travels";
node [shape=box, style="rounded,filled", fillcolor="#ffffff", color="#1f2937",
    fontcolor="#1f2937", fontname="Helvetica", fontsize=12, margin="0.15,0.08"];
edge [color="{GREY}", fontcolor="{GREY}", fontname="Helvetica", fontsize=11,
    arrowsize=0.8];
subgraph cluster_caller {{
    label="the thread that called execute()"; style=rounded; color="{GREY}";
    labeljust=l; margin=14;
    execute [label="StepFunction.execute\\nstart.begin, start.finish"];
    walk [label="walk.run_to_end\\nwalk, sprint"];
    call [label="the user's function"];
    perform [label="perform.perform\\nWorkshop.place, ends.run_tasks"];
    note [label="walk._after\\nthe journal, then the listeners"];
}}
subgraph cluster_thread {{
    label="a thread of the step"; style=rounded; color="{GREY}"; labeljust=l;
    margin=14;
    serve [label="Threads._serve\\nattempts.make_attempt"];
    task_1 [label="the user's function"];
}}
subgraph cluster_lane {{
    label="the thread of a lane"; style=rounded; color="{GREY}"; labeljust=l;
    margin=14;
    exchange [label="Lane._serve\\nLane._conclude"];
}}
subgraph cluster_worker {{
    label="its worker process"; style=rounded; color="{GREY}"; labeljust=l;
    margin=14;
    next [label="worker._serve_next\\nanswers.perform"];
    task_2 [label="the user's function"];
}}
execute -> walk;
walk -> call [label=" a plain call", dir=both];
walk -> perform [label=" anything more"];
walk -> note [label=" Position: the next step\\nand its input", dir=back];
note -> perform [label=" Visit", dir=back, constraint=false];
serve -> task_1 [dir=both];
next -> task_2 [dir=both];
perform -> serve [dir=both,
    label=" to: Threads.begin, a queue\\l back: LiveAttempt.end,\\l {INBOX}"];
perform -> exchange [dir=both,
    label=" to: Lanes.begin, envelope.pack,\\l ProcessLanes._send\\l {BACK}"];
exchange -> next [dir=both,
    label=" to: WorkerProcess.send, a pipe\\l {PACKED}"];
}}
"""

# Where each picture is kept, and what makes it in an empty folder.
PICTURES: dict[str, Callable[[Path], Path]] = {
    "docs/pictures/how_it_works.svg": how_it_works,
    "docs/pictures/failure.svg": drawn_by("guides/failure.md", "failure.svg"),
    "docs/pictures/loop.svg": drawn_by("guides/loops.md", "loop.svg"),
    "docs/pictures/orders.svg": drawn_by("guides/steps.md", "orders.svg"),
    "docs/pictures/tutorial_run.svg": drawn_by("tutorial.md", "run.svg"),
    "examples/car_purchase.svg": car_purchase,
    "examples/car_purchase_run.svg": car_purchase_run,
    REPORT: car_purchase_report,
}


def make(names: Iterable[str], home: Path) -> None:
    """Make pictures, in a folder as this repository."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            made = PICTURES[name](Path(folder))
            target = home / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(made, target)


def main() -> None:
    names = list(PICTURES)
    if shutil.which(BROWSER) is None:
        names.remove(REPORT)
        print(f"left as it is, for want of {BROWSER}: {REPORT}")
    make(names, ROOT)
    print("made:", *names, sep="\n  ")


if __name__ == "__main__":
    main()
