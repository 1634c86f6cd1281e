"""Make pictures smaller on all cores, and let none that is broken or slow stop it.

The pictures are of the simplest format there is (PPM), and made smaller in Python
alone, so this needs nothing else. A broken one fails, one that takes too long is
stopped, and one that takes the process down with it takes nothing else along.
"""

from __future__ import annotations

import os
from pathlib import Path

from stepfunction import StepFunction

PICTURES = Path("pictures")


def shrink(path: Path) -> str:
    """Make a picture half as wide and half as high."""
    kind, size, _, pixels = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    if kind != b"P6" or len(pixels) != width * height * 3:
        raise ValueError("it is no picture")
    if path.stem == "bomb":
        os.abort()  # as a library does that is written in C
    small = bytearray()
    for y in range(0, height - 1, 2):
        for x in range(0, width - 1, 2):
            corners = [3 * ((y + j) * width + x + i) for j in (0, 1) for i in (0, 1)]
            for colour in range(3):
                small.append(sum(pixels[at + colour] for at in corners) // 4)
    header = b"P6\n%d %d\n255\n" % (width // 2, height // 2)
    (path.parent / f"{path.stem}.small.ppm").write_bytes(header + small)
    return f"{width // 2} x {height // 2}"


gallery = StepFunction("Gallery")
gallery.add_map_step(
    "Shrink", shrink, executor="process", timeout=20, tolerated_failures="100%"
)
gallery.set_start_step("Shrink")


def draw(name: str, width: int, height: int) -> Path:
    path = PICTURES / f"{name}.ppm"
    pixels = bytes((x * y) % 256 for y in range(height) for x in range(3 * width))
    path.write_bytes(b"P6\n%d %d\n255\n" % (width, height) + pixels)
    return path


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    paths = [draw(f"sunset{number}", 200, 120) for number in range(4)]
    paths += [draw("bomb", 2, 2), PICTURES / "broken.ppm"]
    paths[-1].write_bytes(b"P6\n100 100\n255\n")

    execution = gallery.execute(paths)
    for path, result in zip(paths, execution.output, strict=True):
        failed = isinstance(result, Exception)
        print(f"{path.stem}: {type(result).__name__ if failed else result}")


if __name__ == "__main__":
    main()
