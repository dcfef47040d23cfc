"""What the benchmarks share: options, running the measured sides, the report.

Each side of a comparison is a small script in ``sides/``. It runs in a process of its own, so that
memory and warm-up of one do not touch the other, and can run in another interpreter. It takes its
settings as one JSON text and ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SIDES = Path(__file__).parent / "sides"
PACKAGES = ("mealkit", "torch", "torchvision", "timm", "pytorch-lightning", "transformers")
Result = dict[str, Any]  # Any: plain JSON values


def make_parser(doc: str) -> argparse.ArgumentParser:
    """Build a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shared",
        type=Path,
        default=Path(os.environ.get("MEALKIT_SHARED") or ROOT.parent / "shared"),
        help="folder with data/ and models/ (default: $MEALKIT_SHARED, else ../shared)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw results there")
    parser.add_argument(
        "--precision", default="auto", help="of mealkit: auto, 32-true or bf16-mixed"
    )
    parser.add_argument("--quick", action="store_true", help="see that the code runs: no numbers")
    parser.add_argument(
        "--peer-python", default=sys.executable, metavar="FILE", help="interpreter with the peer"
    )
    parser.add_argument("--no-peer", action="store_true", help="leave the peers out")
    return parser


def read_options(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; --quick runs one seed."""
    options = parser.parse_args()
    if options.quick:
        options.seeds = options.seeds[:1]
    return options


def run_side(
    name: str,
    settings: Mapping[str, Any],  # Any: plain JSON values
    *,
    python: str = sys.executable,
    file: Path | None = None,
) -> Result:
    """Run one side in a fresh process and answer with what it measured.

    Args:
        name: Of the script in ``sides/``.
        settings: What the side takes.
        python: Which interpreter runs it.
        file: Where the settings are written for sides that read them from a file, because they are
            too long for a command line; None to hand them over on it.
    """
    given = json.dumps(settings)
    if file is not None:
        file.write_text(given, encoding="utf-8")
    done = subprocess.run(
        [python, str(SIDES / f"{name}.py"), given if file is None else str(file)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-4000:]}")
    result: Result = json.loads(done.stdout.splitlines()[-1])
    line = ", ".join(
        f"{key} {value:.4g}" for key, value in result.items() if isinstance(value, float)
    )
    print(f"  {name}: {line}", file=sys.stderr)
    return result


def has_module(python: str, module: str) -> bool:
    """Tell whether an interpreter has a module, without loading it."""
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", code], check=False).returncode == 0


def median_of(results: Iterable[Result], key: str) -> float:
    """Answer with the median of one value."""
    return float(statistics.median(result[key] for result in results))


def mean_of(results: Iterable[Result], key: str) -> float:
    """Answer with the mean of one value."""
    return float(statistics.fmean(result[key] for result in results))


def environment(options: argparse.Namespace, *, peers: Sequence[str] = ()) -> Result:
    """Answer with date, hardware, versions and the command: what a number needs beside it.

    Args:
        options: From `read_options`.
        peers: Packages whose versions the peer's interpreter is asked for.
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        versions[package] = importlib.metadata.version(package)
    for peer in peers:
        code = f"import importlib.metadata as m; print(m.version({peer!r}))"
        done = subprocess.run(
            [options.peer_python, "-c", code], stdout=subprocess.PIPE, text=True, check=True
        )
        versions[peer] = done.stdout.strip()
    script, *rest = sys.argv
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "num_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "bf16_units": bf16_units(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": versions,
        "quick": options.quick,
        "command": shlex.join(["python", f"benchmarks/{Path(script).name}", *rest]),
    }


def cpu_name() -> str:
    """Answer with the model of the CPU as the kernel names it."""
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def bf16_units() -> str:
    """Name what the CPU multiplies bf16 with: "AMX", "AVX-512 BF16" or "none"."""
    import torch

    ask = getattr(torch.cpu, "get_capabilities", dict)  # torch before 2.11 has none
    known = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}
    return next((words for name, words in known.items() if ask().get(name)), "none")


def print_report(
    title: str, known: Result, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Print a Markdown table below what was measured where.

    Args:
        title: What was compared.
        known: From `environment`.
        columns: Heads of the table.
        rows: As many cells each.
    """
    versions = ", ".join(f"{name} {version}" for name, version in known["versions"].items())
    quick = (
        " (QUICK: other net, sizes and pictures; these are no results)" if known["quick"] else ""
    )
    print(f"### {title}{quick}\n")
    print(
        f"{known['date']}; {known['cpu']}, {known['num_cores']} cores, bf16 units: "
        f"{known['bf16_units']}; load before the start {known['load_before']}; {versions}.\n\n"
        f"`{known['command']}`\n"
    )
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print()


def write_json(file: Path | None, results: Result) -> None:
    """Write the raw results where they were asked for."""
    if file is not None:
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
